"""The prose of README and docs: short sentences, and the field's words. `make lint` has proselint look at it too."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = ("timm.md", "torchvision.md")  # tables, by a program
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name not in GENERATED]
MOST_WORDS = 40
# words of ours → the field's
WORDS = {
    "anew": "again",
    "likewise": "also",
    "so many": "N",
    "held against": "compared with",
    "beside": "next to, with",
    "whereof": "of which",
    "for want of": "for lack of",
}


def prose(text: str) -> list[str]:
    """Paragraphs and items of lists, without code, tables, headings and addresses."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = "\n".join("" if re.match(r"\s*[|#<]", line) else line for line in text.splitlines())
    text = re.sub(r"`[^`]*`", "code", re.sub(r"\]\([^)]*\)", "]", text))
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)]


def sentences(text: str) -> list[str]:
    return [one for part in prose(text) for one in re.split(r"(?<=[.!?:;])\s+", part)]


def too_long(text: str) -> list[str]:
    return [one for one in sentences(text) if len(one.split()) > MOST_WORDS]


def private(text: str) -> list[str]:
    words = "|".join(WORDS)
    return re.findall(rf"\b(?:{words})\b", " ".join(prose(text)), re.IGNORECASE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sentences_are_short_and_words_are_the_field_s(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert too_long(text) == []
    assert [f"{word}: {WORDS[word.lower()]}" for word in private(text)] == []


def test_both_are_found() -> None:
    assert too_long("Short.\n\n" + "word " * 41 + "\n\n```\n" + "code " * 50 + "\n```\n")[0].count("word") == 41
    assert private("It is drawn anew, and held\nagainst it. `beside`") == ["anew", "held against"]
