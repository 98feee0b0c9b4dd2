import pytest

from tiny_ablation.data.text import canonical, holds_word, listing, natural_key, prompt_key, token_text
from tiny_ablation.models.sources.toy_tokenizer import toy_tokenizer


def test_canonical_text_has_one_unicode_form_and_one_line_end():
    assert canonical("Cafe\u0301\r\nau lait\r") == "Caf\u00e9\nau lait\n"


def test_prompts_that_differ_in_white_space_are_one_prompt():
    assert prompt_key("The  capital\tof\r\nPeru is") == prompt_key("The capital of Peru is")
    assert prompt_key("The capital of Peru is") != prompt_key("the capital of Peru is")


@pytest.mark.parametrize(
    ("text", "word", "holds"),
    [
        ("Paris is in", " paris", True),
        ("The Parisian is in", " Paris", False),
        ("Is it C++ or", " C++", True),
        ("a b", " ", False),
        ("the end.", " end", True),
        ("日本の首都は東京です", "東京", True),
        ("日本の首都は", "東京", False),
        ("กรุงเทพเป็นเมืองหลวง", "กรุงเทพ", True),
        ("서울은 한국의 수도", "서울", True),
        ("ABC社は", "ABC", True),
        ("रामायण की कथा", "राम", False),
        ("राम की कथा", "राम", True),
        ("Лондонский", "Лондон", False),
        ("in Лондон,", "лондон", True),
        ("aPari Paris", "Paris", True),
    ],
)
def test_a_word_counts_only_whole_and_in_any_case(text, word, holds):
    assert holds_word(text, word) is holds


@pytest.mark.parametrize(("text", "shown"), [(" Paris", [" Paris"]), ("é!", ["<part>", "<part>", "!"])])
def test_parts_of_a_character_have_a_mark(text, shown):
    tokenizer = toy_tokenizer()
    assert [token_text(tokenizer, i) for i in tokenizer(text)["input_ids"]] == shown


def test_a_listing_shows_ten_and_counts_all():
    assert listing([str(i) for i in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert listing([str(i) for i in range(11)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (11 in all)"


def test_rows_sort_by_their_numbers():
    assert sorted(["row-10", "row-9", "row-09", "a"], key=natural_key) == ["a", "row-09", "row-9", "row-10"]
