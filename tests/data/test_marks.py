from tiny_ablation.data.examples import Example
from tiny_ablation.data.marks import clean_spans, corrupt_spans, token_marks


def example(clean: str, corrupt: str, subject: str, **marks) -> Example:
    return Example("a", clean, corrupt, " t", " f", "g", subject=subject, **marks)


def words(text: str, span: tuple[int, int]) -> str:
    return text[span[0] : span[1]]


def test_both_subjects_are_found():
    pair = example("The capital of Peru is", "The capital of Ecuador is", "Peru")
    assert words(pair.clean, clean_spans(pair)["subject"]) == "Peru"
    assert words(pair.corrupt, corrupt_spans(pair)["subject"]) == "Ecuador"


def test_a_subject_is_a_whole_word_where_it_can_be():
    assert clean_spans(example("The party of art is", "", "art"))["subject"] == (13, 16)
    assert clean_spans(example("The parties are", "", "part"))["subject"] == (4, 8)


def test_a_repeated_subject_is_the_one_that_was_exchanged():
    pair = example("One plus one is two, and two plus two is", "One plus one is two, and two plus nine is", "two")
    assert clean_spans(pair)["subject"] == (34, 37)
    assert words(pair.corrupt, corrupt_spans(pair)["subject"]) == "nine"


def test_prompts_that_differ_elsewhere_have_no_corrupt_subject():
    assert corrupt_spans(example("An ant is", "A bee is", "ant")) == {}
    assert corrupt_spans(example("An ant is", "", "ant")) == {}


def test_marks_of_the_family_come_first():
    pair = example(
        "Peru and Peru are", "Peru and Chad are", "Peru", marks={"subject": (0, 4)}, corrupt_marks={"subject": (9, 13)}
    )
    assert clean_spans(pair) == {"subject": (0, 4)}
    assert corrupt_spans(pair) == {"subject": (9, 13)}


def test_a_mark_is_every_token_that_shares_a_character_with_it():
    # "The| Unit|ed| Nations| are" with the leading space inside each token.
    offsets = [(0, 3), (3, 8), (8, 10), (10, 18), (18, 22)]
    marks = token_marks({"subject": (4, 18), "one": (9, 10), "none": (22, 22)}, offsets, shift=1)
    assert marks == {"subject": (2, 3, 4), "one": (3,), "none": (), "last": (5,)}
