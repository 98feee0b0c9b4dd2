"""Words that several behaviours draw from.

Each is one token with a leading space for the byte-pair vocabularies of SmolLM2, GPT-2 and the GPT-4 kind
that Qwen builds upon, so that a word can be exchanged for another of its list without changing a prompt's
length. Lists of pairs keep both halves together when they are held out.
"""


def words(text: str) -> list[str]:
    """The words of a text, so that a long list can be read and edited as one."""
    return text.split()


def pairs(text: str) -> list[tuple[str, str]]:
    """The pairs of a text, each written as `one/other`."""
    return [(a, b) for a, _, b in (word.partition("/") for word in text.split())]


FEMALE = words("""
    Mary Anna Emma Laura Sarah Alice Jane Kate Lisa Julia Rachel Maria Susan Helen Linda Amy Karen Diana
    Rose Grace Nancy Emily Elizabeth Jennifer Michelle Jessica Nicole Amanda Victoria Angela
""")
MALE = words("""
    John Tom James David Paul Mark Peter Robert Daniel Michael Thomas George Henry Jack Adam Simon
    Andrew Brian Kevin Steven Eric Frank Martin Scott Carl Joseph William Richard Charles Matthew
""")
NAMES = [name for both in zip(FEMALE, MALE, strict=True) for name in both]
"""Women's and men's names in turn, so that every part of the list holds as many of each."""

PLACES = words("""
    store park school office station garden library museum market church hotel restaurant hospital house
    theater beach farm bar kitchen lake river hall gym airport bank
""")

PEOPLE = pairs("""
    boy/boys girl/girls teacher/teachers student/students doctor/doctors lawyer/lawyers author/authors
    farmer/farmers driver/drivers singer/singers artist/artists king/kings queen/queens soldier/soldiers
    guard/guards actor/actors worker/workers player/players writer/writers engineer/engineers
    manager/managers officer/officers friend/friends neighbor/neighbors nurse/nurses
""")
THINGS = pairs("""
    key/keys book/books car/cars table/tables chair/chairs door/doors window/windows picture/pictures
    letter/letters box/boxes bottle/bottles ring/rings lamp/lamps tree/trees flower/flowers boat/boats
    plane/planes train/trains knife/knives phone/phones hat/hats cup/cups plate/plates clock/clocks
    toy/toys
""")
"""Nouns in the singular, and in the plural."""

COMMON = words("""
    water table paper music garden window river mountain summer winter city road bridge forest island
    engine market school church museum doctor teacher farmer soldier picture letter story poem song
    dance game sport horse bird fish dog cat cow apple bread cheese sugar salt coffee tea milk rice corn
    glass stone metal wood gold silver iron copper cloth cotton leather plastic box bag bottle cup plate
    knife spoon chair bed lamp clock mirror phone camera radio computer car train plane boat ship truck
    wheel street corner hill valley field farm barn fence gate wall roof floor door key lock rope chain
    nail hammer tool brush paint color shape circle square line point angle number word page book map
    flag coin card stamp ticket money bank price store shirt coat hat shoe sock belt ring watch hand
    foot arm leg head face eye ear nose mouth tooth hair skin bone heart brain blood sleep dream fear
    joy anger hope trust friend family mother father sister brother king queen spring moon star sun sky
    cloud rain snow wind storm fire smoke light shadow night morning evening hour minute week month year
""")
"""Everyday nouns, for prompts whose words should not belong together."""
