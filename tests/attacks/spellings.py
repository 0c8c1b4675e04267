"""JSON and bytes as no honest caller writes them: strategies of bodies that are made out of a good document."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

Place = tuple[str | int, ...]

# Values as they stand in the text: numbers that no type holds, half pairs, depth, what is no JSON at all.
TOKENS = (
    *("NaN", "-Infinity", "1e999", "-1E400", "1e-999", "1e99999999999", "-0", "0.1", "10.0", "1e3", "01", "+1", ".5"),
    *("9" * 39, "9" * 40, "9" * 41, "9" * 5000, "-" + "9" * 5000, "1." + "0" * 5000, "true", "null", "[]", "{}", ""),
    *('"\\ud800"', '"\\udfff\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '""', '" "', '"=1+1"', "'a'", '"\t"', '"a'),
    *(
        "[" * 60 + "]" * 60,
        "[" * 900 + "]" * 900,
        '{"a":' * 3000 + "1" + "}" * 3000,
        "[" * 5000,
        '"' + "x" * 9000 + '"',
    ),
    *(
        "[" + "0," * 3000 + "0]",
        "{" + '"a":1,' * 2000 + '"a":2}',
        '"\u202e\u200b"',
        '"\uff11\uff12"',
        "[[]]",
        '"1e999"',
    ),
)
tokens = (
    st.sampled_from(TOKENS)
    | st.text(max_size=20).map(json.dumps)
    | st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
)
# The text as bytes: marks of an encoding, other encodings, what stands around it or is missing.
ENCODINGS: tuple[Callable[[str], bytes], ...] = (
    lambda text: text.encode("utf-8", "surrogatepass"),
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.encode("utf-16"),
    lambda text: text.encode("utf-32-be"),
    lambda text: text.encode("latin-1", "replace"),
    lambda text: text.encode("utf-7"),
    lambda text: text.encode() + b"\x00" * 9,
    lambda text: text.encode() + b"\xff",
    lambda text: b" \r\n\t" + text.encode() + b"\n",
    lambda text: text.encode() * 2,
    lambda text: text.encode()[:-1],
    lambda text: text.encode()[: len(text) // 2],
    lambda text: b"[" + text.encode() + b"]",
)


def places(document: Any, place: Place = ()) -> Iterator[Place]:
    """Where each value of a document stands: names and numbers from the outside to it."""
    yield place
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, value in inside:
        yield from places(value, (*place, name))


def spelled(value: Any, changed: dict[Place, str], doubled: dict[Place, str], place: Place = ()) -> str:
    """A document as text, with other tokens at some places, and before or after others the same name once more."""
    if place in changed:
        return changed[place]
    if isinstance(value, list):
        return "[" + ",".join(spelled(each, changed, doubled, (*place, at)) for at, each in enumerate(value)) + "]"
    if not isinstance(value, dict):
        return json.dumps(value)
    members = []
    for name, inner in value.items():
        at = (*place, name)
        text = [f"{json.dumps(name)}:{spelled(inner, changed, doubled, at)}"]
        if at in doubled:
            text.insert(len(doubled[at]) % 2, f"{json.dumps(name)}:{doubled[at]}")
        members += text
    return "{" + ",".join(members) + "}"


@st.composite
def changes(draw: st.DrawFn, document: dict[str, Any]) -> Callable[[dict[str, Any]], bytes]:
    """What makes bytes of a document of this shape: with other values, a name twice, one that nobody knows, or none."""
    if not draw(st.integers(0, 9)):
        noise = draw(st.binary(max_size=300))
        return lambda document: noise
    where = st.sampled_from(list(places(document))[1:])
    changed = draw(st.dictionaries(where, tokens, max_size=1))
    doubled = draw(st.dictionaries(where, tokens, max_size=1))
    unknown = draw(st.dictionaries(st.just(("unknown",)), tokens, max_size=1))
    encode = draw(st.just(ENCODINGS[0]) | st.just(ENCODINGS[0]) | st.sampled_from(ENCODINGS))
    return lambda document: encode(spelled(document | {"unknown": 1}, changed | unknown, doubled))
