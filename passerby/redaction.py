"""Takes secrets out of a text that people will read: a log's line, a reason, a setting."""

import re

# Userinfo of a URL: a user may be shown, what stands after the colon or alone may not.
_PASSWORD = re.compile(r"""(://[^\s:/?#@"']*:)[^\s"']*@""")
_ALONE = re.compile(r"""(://)[^\s:/?#@"']+@""")
# A URL's query may be a signature, or the password of a Redis.
_QUERY = re.compile(r"""(://[^\s?"']*\?)[^\s"']+""")
_NAMED = re.compile(
    r"""(?ix)
    ( [\w-]* (?: password | passwd | secret | token | signature | credential | api_?key
        | access_?key (?:_?id)? ) [\w-]* ["']? \s* = \s* ["']? )
    [^\s"'&;,]+
    """
)
_AUTHORIZATION = re.compile(r"""(?i)(authorization["']?\s*[:=]\s*["']?(?:[a-z]+\s+)?)[^\s"',;]+""")


def redacted(text: str) -> str:
    """The text with *** for passwords and queries of URLs, and for what is called a secret."""
    if "://" in text:
        text = _PASSWORD.sub(r"\1***@", text)
        text = _ALONE.sub(r"\1***@", text)
        text = _QUERY.sub(r"\1***", text)
    text = _NAMED.sub(r"\1***", text)
    return _AUTHORIZATION.sub(r"\1***", text)
