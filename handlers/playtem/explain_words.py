"""What the owner reads of Playtem's refused calls (``explain.py``), and the word for its secret."""

from handlers.kit.explain_words import table

SECRETS = {"playtem.secret": "Playtem secret"}

FINDINGS = table("""
parameter_repeated: The parameter {name} is there {count} times.
    Playtem sends it once.
other_parameter (settings): The payload came in the parameter {there}; {name} is expected.
    Set playtem.parameter to {there}.
parameter_missing (settings): The parameter {name} is missing{there}.
    If Playtem names it otherwise, set playtem.parameter.
no_items: The signature is right, but the call has no items to credit.
    Ask Playtem what it means.
too_long: The payload has {length:,} characters; more than {most:,} are not read.
empty: The payload is empty.
    Playtem's calls carry one; a person may have tried the address.
plain_json: The payload is JSON as it is, and not Base64 of it.
    Playtem sends Base64.
no_base64: The payload is not Base64, or was cut on the way.
    Compare its length with what Playtem sent.
no_text: The payload is Base64 of something that is no text: it may be encrypted.
    That is how Playtem links accounts; this address is for credits.
base64_twice: The payload was put into Base64 twice.
    A program between Playtem and Coinslot encodes it again.
single_quotes (settings): The payload is in the guide's notation with single quotes, which \
    playtem.accept_single_quotes leaves out.
    Set playtem.accept_single_quotes to on.
no_json: The payload is Base64 of something that is no JSON{where}.
    It was cut, or another program made it.
no_object: The payload's JSON is no object.
    Playtem sends AppId, UserId, Items, TransactionId, Signature.
lacking: The payload lacks {names}.
    Playtem sends all five; another program made this one.
sha256: The Signature has 64 digits, as of HMAC-SHA256; Playtem's guide says HMAC-SHA1, which has 40.
    Ask Playtem which one it is.
no_signature: The Signature is not 40 hexadecimal digits.
    It was cut, or another program made it.
no_id?: A field of the payload holds what can be no id.
    Look at the call below.
readable_by_now: By what is set now, the payload can be read: a setting was changed after this call came.

app_id_set_since: playtem.app_id was another one when this call came; now it is that of the call.
app_id (settings): It names the AppId {app_id}{whose}; playtem.app_id of this game is {ours}.
    Correct playtem.app_id, or the address that Playtem has for that game.
misread (integration): It is signed with {key}, {how}.
    Set the secret here again, exactly as agreed.
another_game (integration): It is signed with {key}.
    Playtem has the address of this game where {slug}'s belongs, or the secret was set at the wrong one.
another_secret (integration): It is signed with {key} in place of the Playtem secret.
another_format (settings): The secret is right, but Items are signed in the format {format}, which playtem.formats \
    leaves out.
    Add {format} to playtem.formats.
another_separator (settings): The secret is right, but what is signed has other separators: {between!r} between its \
    parts, {items!r} for its items.
    {to_set}
plain_digest: The secret is right, but it is signed by SHA-1 over the secret and the text, and not by HMAC-SHA1.
    Ask Playtem for the HMAC that its guide describes: the other can be extended by a stranger.
another_order: The secret is right, but it signs {signed}; the guide says {guide}.
    Ask Playtem which it is: no setting here takes another order.

app_id_of_none: It names the AppId {app_id}, which no game here has as its playtem.app_id.
    Set playtem.app_id, or give Playtem the address that names the game.
app_id_of_one: It names the AppId {app_id}; the game {games} was not set up for it then.
app_id_of_several: It names the AppId {app_id}, which {games} both have.
    Correct playtem.app_id of one of them.
facebook_id (players): No player is linked to the Facebook id {user_id} (playtem.user_id is {setting}).
    Have the game push the player's identities, or set playtem.user_id to player.
""")
