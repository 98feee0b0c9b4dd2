"""The content security policy of a page, for tests that put a script of their own into it."""

import re

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">\n')


def nonce(page: str) -> str:
    """The number that the page's own scripts carry."""
    return re.findall(r"script-src &#39;nonce-(\w+)&#39;", POLICY.search(page)[1])[0]


def with_probe(page: str, probe: str) -> str:
    """The page with a script at its end that counts as its own."""
    return page.replace("</body>", f"{probe.replace('<script>', f'<script nonce={nonce(page)}>')}</body>")


def without_policy(page: str) -> str:
    """The page as a browser that knows no policies has it."""
    return POLICY.sub("", page)
