"""What the owner reads of Appcharge's refused calls (``explain.py``), and Appcharge's words for its secrets."""

from handlers.kit.explain_words import table

SECRETS = {
    "appcharge.main_key": "main key",
    "appcharge.secondary_key": "secondary key",
    "appcharge.events_secret": "events secret",
    "appcharge.publisher_token": "publisher token",
    "appcharge.checkout_public_key": "checkout public key",
}

RECIPES = {
    "{body}": "over the body alone, without the time",
    "{time}{body}": "without the full stop between time and body",
    "{body}.{time}": "over body and time in the wrong order",
    "{body}{time}": "over body and time in the wrong order",
    "{seconds}.{body}": "with its time in seconds and sent with milliseconds",
    "{time}000.{body}": "with its time in milliseconds and sent with seconds",
    "{number}.{body}": "with the time printed again, without leading zeros",
}

# An order is sent again by itself within half a minute only, which is over when this is read.
FINDINGS = table("""
never_came: Appcharge lists this order as paid, and no call of it came here.
    Press Retry Award for it in Appcharge's dashboard. This ends by itself once the order is credited or refunded.
encrypted (settings): The body is encrypted as in 2023, and opens with {key} and {vector}; appcharge.payload is json.
    Set appcharge.payload to aes.
looks_encrypted (settings)?: The body looks encrypted as in 2023 and there is no signature, while appcharge.payload \
    is json.
    If the store still encrypts, set appcharge.payload to aes, and both keys.
renamed_header: The signature came in the header {name}; Appcharge sends it in the header signature.
    A proxy that renames it has to let it be.
no_header: The call carries no signature.
    Either it does not come from Appcharge, or a proxy on the way drops the header signature.
named_twice: The header signature names its time or its v1 more than once.
    Something on the way joins two headers, or signs a second time.
no_time: The header signature lacks its time (t=).
    Appcharge writes t=<time>,v1=<signature>; it was cut, or not theirs.
body_alone: It is signed with {key} over the body alone: the header lacks its time (t=).
    That would stay good for ever, so it is refused. Appcharge signs t, a full stop and the body.
time_no_number: The time in the header signature (t=) is no number.
    Appcharge sends Unix milliseconds.
no_v1: The header signature has a time and no v1.
    It was cut, or another program wrote it.
base64: It is signed with {key}, and the v1 is written in Base64 in place of hexadecimal.
    Appcharge writes 64 hexadecimal digits; another program signed this.
no_digest: The v1 in the header signature has {length} characters, and not 64 hexadecimal digits.
    It was cut on the way, or another program wrote it.

set_since: It is signed with {key}, which was set, or let in, after this call came.
    Calls that come from now on pass. For an order, press Retry Award in Appcharge's dashboard.
misread (integration): It is signed with {key}, {how}.
    Set the key here again, exactly as the partner's dashboard shows it.
another_game (integration): It is signed with {key}.
    The address of this game is pasted where {slug}'s belongs, or its key was set at the wrong game.
secondary_key (settings): It is signed with {key}, while appcharge.secondary_role is iv.
    Set appcharge.secondary_role to backup, or have Appcharge sign with the main key.
another_secret (integration): It is signed with {key} in place of the main key.
    One of the two was set in the other's place, here or in Appcharge's dashboard.
another_message: It is signed with {key}, but {how}.
    Appcharge signs the time exactly as the header has it, a full stop, and the body.
other_unit: Its time counts {unit}, in place of milliseconds or seconds.
    The signature is right; the sender is not.

no_token (settings): {proved} the header x-publisher-token is missing.{also}
    A proxy on the way may drop it. For events alone appcharge.events_without_token lets it be.
token_set_since: The publisher token that it carries was set after this call came.
    Calls that come from now on pass. For an order, press Retry Award in Appcharge's dashboard.
token_is_a_key (integration): {proved} it carries {key}{how} as its publisher token.
    Set the publisher token here again, as Appcharge's dashboard shows it.
token_nearly (integration): {proved} its publisher token differs from the one that is set here in blanks or capitals \
    alone.
    Set it here again, exactly as Appcharge's dashboard shows it.
token_cut (integration): {proved} its publisher token and the one that is set here begin alike: one of them was cut.
    Set it here again, all of it.
token_unknown (integration): {proved} its publisher token is not one that is stored here.
    Copy the publisher token from Appcharge's dashboard again: it may have been replaced there.
project (settings): It comes from the Appcharge project {given}{whose}; appcharge.project_id is {ours}.
    Correct appcharge.project_id, or the address in that project.

too_large_to_open: The body has {size:,} bytes; encrypted, no more than {most:,}.
empty: The body is empty.
    Nothing of Appcharge's is: another program called, or a proxy removed it.
neither: The body is neither hexadecimal digits nor JSON.
    Appcharge wrote encrypted bodies as hexadecimal digits.
signed_and_plain (settings): It is not encrypted but signed, with {key}, while appcharge.payload is aes.
    Set appcharge.payload to json: the store has left the encrypted payloads behind.
plain (settings): The body is plain JSON, while appcharge.payload is aes.
    Set appcharge.payload to json if the store signs its calls.
key_sizes (integration): It cannot be opened: {sizes}.
    Copy both keys from Appcharge's dashboard again.
not_opened (integration): It was encrypted with keys that are not stored here, or changed on the way.
    Compare both keys with those in Appcharge's dashboard.
swapped (integration): Main key and secondary key are swapped: it opens when each is taken for the other.
    Set the one of 32 characters as the main key and the one of 16 as the secondary key.
opened_by_another (integration): It opens with {key} and {vector}.
    The address of this game is pasted where {slug}'s belongs.
no_token_inside (integration): It opens with this game's keys, and carries no publisherToken.
    Set the publisher token as the store has it.
other_token_inside (integration): It opens with this game's keys, and carries another publisherToken than is set here.
    Set the publisher token as the store has it.
opened_since: It opens with {key}, which was set after this call came.
    Calls that come from now on pass. For an order, press Retry Award in Appcharge's dashboard.

login_malformed?: The login lacks something that it needs, or is no JSON; bodies of logins are not kept.
    Have the store send one again and look at its own log.
unreadable: The call proved itself, but its body cannot be read: {error}.
    Sending it again does not help. If Appcharge sends such bodies now, Coinslot has to learn it.
malformed?: The call proved itself, but something in its body is not as it has to be.
    Look at the body below.
unknown_status (settings): The order's actionStatus was in neither appcharge.completed_statuses nor \
    appcharge.failed_statuses.
    Add it to one of the two; for an order that was paid, then press Retry Award in Appcharge's dashboard.
misplaced (integration): It is an order, and this address takes none. Nothing was credited.
    Paste the address of orders into Appcharge's dashboard; then press Retry Award there for this order.
misplaced_event (integration): It is an event, and this address takes none. Nothing was kept of it.
    Paste the address of events, {address}, into Appcharge's dashboard.
deep_link (settings): The store wants to open the game for a login, and appcharge.deep_link is not set.
    Set appcharge.deep_link, or leave the address for it empty in Appcharge's dashboard.
deep_link_set_since: appcharge.deep_link was not set when this call came; now it is.
""")
