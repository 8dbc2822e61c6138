"""Texts that break out of paths, URLs, lines and expressions wherever they are not quoted."""

# As names of images: each has to come back as it is, and none may become a path.
FILENAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../b//c/.",
    "back\\slash",
    "quote\"s\\ and 'apostrophes' or 1 == 1 or id in [1]",
    "new\nline\r\n\ttab",
    "nul\0",
    " ",
    "名前/人.jpg",
    "🚶.jpg",
    "%2e%2e%2f",
    "what?is#this&that=1;2+3 4",
    "é" * 2048,  # 4,096 bytes, as many as a filename may have
]

# As literals of a filter: each has to match itself and nothing else.
LITERALS = [
    "",
    "gate",
    "Gate",
    'a "quoted" one',
    "it's",
    "back\\slash",
    "trailing\\",
    '\\"',
    "new\nline\r\ttab",
    '" or id > 0 or camera == "',
    "'] == '' or 1 == 1 or tags['",
    "%_like",
    "{param}",
    "名前🚶",
    "\x00\x07\x1b",
    "\u2028",
    "true",
    "1",
    "a/b~c",
    "$meta",
    "id",
]
