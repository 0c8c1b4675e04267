"""The sentences about refused webhooks, entries and payment queries, and the names of PlayCamp's secrets."""

from handlers.kit.explain_words import table

SECRETS = {
    "playcamp.api_key": "PlayCamp API key",
    "playcamp.webhook_secret": "PlayCamp webhook secret",
    "playcamp.shared_key": "PlayCamp shared key",
    "playcamp.payments_key": "PlayCamp payments key",
}

RECIPES = {
    "{body}": "over the body alone: the time in the header is not signed",
    "{time}{body}": "without the full stop between time and body",
    "{time}000.{body}": "with its time in milliseconds and sent with seconds",
    "{seconds}.{body}": "with its time in seconds and sent with milliseconds",
}

WEBHOOKS = table("""
no_gateway_time: It has X-Gateway-Signature and lacks X-Gateway-Timestamp.
    A gateway of PlayCamp's sends both; one was removed on the way.
renamed_header: The signature came in the header {name}; PlayCamp sends X-Webhook-Signature.
    The proxy that renames it has to leave it alone.
no_header: The call carries no signature.
    Either it does not come from PlayCamp, or a proxy on the way removes the header X-Webhook-Signature.
no_digest: The signature in the header is not 64 hexadecimal digits.
    It was cut on the way, or another program wrote it.
another_form: It is signed with {key}, but the header is written in another form than PlayCamp's: it begins with \
    {start!r}.
    PlayCamp sends <hex>, or t=<seconds>,v1=<hex>. A program on the way rewrites it.
misread (integration): It is signed with {key}, {how}.
    Set the secret here again, exactly as PlayCamp shows it.
another_game (integration): It is signed with {key}.
    The webhook of this game's address was registered with {slug}'s project, or the secret was set at the wrong game.
another_hook (integration): It came to the address of the webhook {hook} and is signed with the secret {whose}.
    Swap the two addresses at PlayCamp, or the two secrets here.
another_secret (integration): It is signed with {key} in place of a webhook's secret.
another_message: It is signed with {key}, but {how}.
    PlayCamp signs the body, or the time in seconds, a full stop and the body.
milliseconds: Its time counts milliseconds (or less); PlayCamp's webhooks count seconds.
    The signature is right, so the sender has to correct it.
empty: The body is empty.
    PlayCamp's webhooks have one: a person may have tried the address.
unreadable: The call proved itself, but its body cannot be read: {error}{whole}.
    Ask PlayCamp.
hook_set_up_since: The webhook {hook} had no secret when this call came; now it has one.
no_hook (integration): The webhook {hook} of the game {game} has no secret here.{there}
    Set playcamp.webhook_secret.{hook}, or correct the address at PlayCamp.
""")

ENTRIES = table("""
other_names (settings): The entry is signed rightly, but its parameters have other names: {meanings}.
    Set {settings}.
lacking (settings): The parameter {names} is missing{there}.
    If the game names them otherwise, set playcamp.param.user, .campaign and .auth.
another_recipe (settings): The game signs its entries by another recipe: {recipe}{with_key}.
    Set playcamp.signature to {recipe}, or change what the game signs. It is set to {configured} now.
misread (integration): It is signed with {key}, {how}.
    Game and Coinslot need the same text.
set_since: It is signed with {key}; the key or its recipe was set after this call came.
another_game, another_secret (integration): It is signed with {key} in place of this game's PlayCamp shared key.
    Give the game's server the shared key that is set here, or set its key here.
in_vain (integration): It was signed with a key that is not stored here, or the {what} was changed on the way.
    Compare the game server's shared key and recipe with those that are set here.
too_long: The signature's parameter has {length:,} characters; more than {most} are not read.
begins_otherwise?: The parameter does not begin with the player that the entry names.
unlike_the_recipe (settings)?: The parameter {name} has another form than playcamp.signature says: it has {length} \
    characters and {bars} bars.
    The recipe is {configured}. Compare it with what the game's server makes.
more_than_the_player (settings)?: The game signs something after its player: {signed}, where the entry names {entering}.
    If that is the campaign, set playcamp.signature_campaign to on; else change playcamp.signature.
another_player: The signature is that of another player than the entry names.
    The game's client has to send the id that its server has signed. A player may also have changed the link.
another_player_named: The signature is that of another player than the entry names: {signed}, and not {entering}.
    The game's client has to send the id that its server has signed. A player may also have changed the link.
sent_twice, sent_late: The player opened an old link: it was signed {away} before ({allowed}).
    The game has to ask its server for a new link each time the button is pressed.
stale?: The entry was signed too long ago, or in the future.
    {allowed} are allowed (playcamp.tolerance_seconds).
used (settings): The link was opened before, and playcamp.entry_once lets each link be opened once.
    The game has to ask its server for a new link each time, or set playcamp.entry_once to off.
campaign (settings): The entry names a campaign that playcamp.campaigns does not list ({allowed}).
    Add the campaign to playcamp.campaigns, or correct what the game sends.
malformed?: The signature is right, but the player's id or the code_challenge cannot be one.
    Look at what the game's client puts into the address.
""")

QUERIES = table("""
no_fingerprint: The query lacks the header {names}.
    Either it does not come from PlayCamp's gateway, or a proxy on the way removes the header.
another_fingerprint: The fingerprint is made with {key}, but {how}.
    It is the SHA-256 of five lines: method, path, the query's parameters in order, X-Timestamp and the key.
misread (integration): The fingerprint is made with {key}, {how}.
    Set the key here again.
set_since: The fingerprint is made with {key}, which was set after this call came.
    The next call will be accepted.
another_game, another_secret (integration): The fingerprint is made with {key} in place of this game's PlayCamp \
    payments key.
    Give PlayCamp the payments key that is set here, or set theirs here.
time_no_number: X-Timestamp is no number; it has to be Unix seconds.
    The fingerprint is right, so PlayCamp's gateway sent it.
""")
