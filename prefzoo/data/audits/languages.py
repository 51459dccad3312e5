"""Detect the language of a text by its script and, for Latin script, by function words of twelve languages."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

READ = 600  # first characters of a text that are read
LATIN = "Latin script"  # the result for a text in Latin script whose language is not detected
FEWEST = 2  # function words that a language needs to be detected
_WORDS = {
    "English": "the of and to in is that it for was with you are this have not as be on what how can my do from",
    "German": "der die und das nicht ist ein eine ich mit zu den von auf sich des dem für wie was sie es auch kann",
    "French": "le la les et des est une un pour dans que qui pas sur avec vous je ce plus du au sont ne comment",
    "Spanish": "el la los las de que es una un para en por con no se lo cómo del más su al qué como está",
    "Italian": "il la di che un una per non sono con del della le gli come si ma anche nel più questo alla mi",
    "Portuguese": "os de que um uma para não com em do da se como mais por dos no na você são isso ao",
    "Dutch": "de het een en van is dat niet ik op te voor met zijn je er aan wat hoe ook naar om maar bij",
    "Polish": "nie na się że do jest to jak co od po dla czy ale tak przez są jego może być już",
    "Swedish": "och att det som en på är av för med inte jag den har till om ett vad kan du hur men från var",
    "Turkish": "ve bir bu da de için ile ne çok ben nasıl değil olarak daha gibi en var mi kadar ama olan",
    "Vietnamese": "là và của có không một được các trong cho người những với này để tôi khi đã bạn như về",
    "Indonesian": "yang dan di dengan untuk ini itu dari dalam tidak adalah pada ke akan atau saya anda bisa apa",
}
_LANGUAGES: dict[str, list[str]] = {}
for _language, _words in _WORDS.items():
    for _word in _words.split():
        _LANGUAGES.setdefault(_word, []).append(_language)
_WORD = re.compile(r"[^\W\d_]+")
_OWN_SCRIPT = {"HANGUL": "Korean", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "CJK": "Chinese", "THAI": "Thai"}


def language_of(text: str) -> str:
    """Return the language of a text, or else the name of its script; empty if it has no letters.

    Args:
        text: the text, of which the first `READ` characters are read.
    """
    sample = text[:READ]
    if sample.isascii():
        return _of_latin(sample)
    scripts = Counter(_script(c) for c in sample if not c.isascii() and c.isalpha())
    scripts["LATIN"] += sum(c.isascii() and c.isalpha() for c in sample)
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    if kana and kana + scripts["CJK"] > scripts["LATIN"]:
        return "Japanese"
    script, letters = scripts.most_common(1)[0]
    if not letters:
        return ""
    return _of_latin(sample) if script == "LATIN" else _OWN_SCRIPT.get(script, f"{script.capitalize()} script")


def is_other_language(prompt: str, answer: str) -> bool:
    """Return whether the languages of a prompt and an answer are both detected, and differ."""
    known = {prompt, answer} - {"", LATIN}
    return len(known) == len((prompt, answer))


def _of_latin(text: str) -> str:
    words = _WORD.findall(text.lower())
    if not words:
        return ""
    counts = Counter(language for word in words for language in _LANGUAGES.get(word, ()))
    (best, most), (_, next_most) = (*counts.most_common(2), ("", 0), ("", 0))[:2]
    return best if most >= FEWEST and most > next_most else LATIN


@lru_cache(maxsize=65536)
def _script(character: str) -> str:
    return unicodedata.name(character, "UNKNOWN").split()[0]
