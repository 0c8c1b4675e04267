"""What the owner reads of Xsolla's refused calls (``explain.py``), and the word for its secret."""

from handlers.kit.explain_words import table

SECRETS = {"xsolla.secret": "Xsolla secret key"}

FINDINGS = table("""
no_header: It has no Authorization header, so nobody signed it.
    Xsolla's webhooks all have one; the web shop's own user check has none and is not served here. A proxy may also \\
    have removed it.
renamed_header: The signature came in the header {name}; Xsolla sends it in the header Authorization.
    A proxy that renames it has to leave it alone.
no_digest: Its Authorization header is not "Signature" and 40 hexadecimal digits.
    Xsolla sends SHA-1 in hexadecimal; another program made this call, or the header was cut.
misread (integration): It is signed with {key}, {how}.
    Set the secret key here again, exactly as Publisher Account shows it.
another_game (integration): It is signed with {key}.
    Publisher Account has the address of this game where the one of {slug} belongs, or the secret key was set at the \\
    wrong game.
another_secret (integration): It is signed with {key} in place of the Xsolla secret key.
another_message: It is signed with {key}, but as {how}.
    Xsolla signs by SHA-1 over the body followed by the secret key.
unreadable: The signature is right, but the webhook cannot be read: {error}.
    Ask Xsolla's support what this webhook is; the body is below.
""")
