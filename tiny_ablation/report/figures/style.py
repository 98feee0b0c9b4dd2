"""How figures, the terminal and the page look: colours, sizes, the diverging scale.

Plain values only, so that importing it costs nothing. Colour means sign and nothing else: vermilion is below
the baseline, blue above it, and the middle of the scale is always exactly zero. The two hues stay apart under
every common colour-vision deficiency and have equal lightness at equal distance from zero.
"""

# From the most negative to the most positive; the middle one is zero.
DIVERGING = ("#7d1d0e", "#b8432a", "#e07f5f", "#f3c3ae", "#f5f4f2", "#b3d2ea", "#6ba3d0", "#2f6ba8", "#103a6b")
# On a dark page the far ends are bright and zero recedes into the page.
DIVERGING_DARK = ("#ffd2c0", "#f79a78", "#d0603d", "#7a3b29", "#2a2d33", "#23506f", "#3d83b8", "#7fbbe6", "#cbe6fa")

# For conditions, directions and the like; Okabe and Ito's colours (2008), told apart under every colour-vision deficiency.
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56a0d0", "#e69f00", "#4d4d4d")
CATEGORIES_DARK = ("#56b4e9", "#f4874b", "#35c79c", "#e6a3c8", "#d9c24a", "#9fd0f0", "#f5bf4f", "#c8ccd2")
DASHES = ("solid", "dash", "dot", "dashdot")  # beside colour, for print without it

PAPER, INK, MUTED, LINE = "#ffffff", "#1d2127", "#6a717c", "#d5d8dd"
INK_DARK, MUTED_DARK, LINE_DARK = "#e8eaee", "#9aa2ae", "#3b4049"
BELOW, ABOVE = DIVERGING[1], DIVERGING[7]
BELOW_DARK, ABOVE_DARK = DIVERGING_DARK[1], DIVERGING_DARK[7]
PALE = 0.35  # opacity of a cell whose interval includes 0
UNRESOLVED = "#9aa0a9"  # no hue, since its sign is not known

FONT, NUMBER_FONT = ("DejaVu Sans", "DejaVu Sans Mono")  # come with matplotlib, so that figures are the same everywhere
WEB_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
DPI = 170
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 11.0, 9.0, 8.0  # points
WEB_SIZE = 13  # pixels
