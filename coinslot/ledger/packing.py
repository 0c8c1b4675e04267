"""How bodies and money figures of transactions are stored: in a third of their bytes.

They are compressed with DEFLATE (RFC 1951), which is told words beforehand that such texts often hold. The first byte
says how the rest is packed.
"""

import json
import zlib

PLAIN, WITH_WORDS = b"\0", b"\1"
LARGEST = 16 * 1024 * 1024  # far more than any body that is taken

# Never change them: what is stored could not be read any more. Other words would need a first byte of their own. Those
# that matter most stand last.
WORDS = (
    rb'{"sessionMetadata":"{\"storeMetadata":{"productsSequenceIndex":1,"offerType":"Bundle"},"receiptId":"receipt_'
    b'"awardFlow":"auto","manual_retry","notification_type":"transaction":{"payment_date":"purchase":{"total":{"amount":'
    b'"transactionId":"externalTransactionId":"purchaseId":"pr_"PaymentId":"purchaseDateAndTimeUtc":"2026-01-01T00:00:00'
    b'.000Z","date":"created":"timestamp":"user":{"id":"name":"email":"country":"ip":"playerId":"bundleName":" Pack",'
    b'"bundleId":"sku":"items":[{"products":[{"amount":1,"quantity":100,"sku":"coins","name":"Coins"},{"amount":"sku":'
    b'"gems","name":"Gems"}],"price":"user_id=&signature=&trans_id=&data=%5B%7B%22item_id%22%3A%22amount%22%3A%22'
    b'"originalPriceInDollar": "9", "paymentPriceInDollar": "currencyExchangeCost": "0", "estimatedPublisherNetAmount":'
    b'"estimatedFee": "pricePointMetadata":"priceInCents": "999", "currency":"USD","subTotal": "tax": "0", "taxRate":'
    b'"taxInDollar": "priceInDollar": "priceTotalInDollar": "action":"purchase","actionStatus":"completed",'
    b'"paymentMethod":"card","countryCode2":"US","orderId":"'
)


def pack(raw: bytes) -> bytes:
    """The bytes as they are stored."""
    deflating = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, WORDS)
    packed = deflating.compress(raw) + deflating.flush()
    return WITH_WORDS + packed if len(packed) < len(raw) else PLAIN + raw


def unpack(stored: bytes) -> bytes:
    """The bytes that were packed. Raises ValueError for what :func:`pack` has not made."""
    way, packed = stored[:1], stored[1:]
    if way == PLAIN:
        return packed
    inflating = zlib.decompressobj(-15, zdict=WORDS)
    try:
        raw = inflating.decompress(packed, LARGEST)
    except zlib.error:
        raw = b""
    if way != WITH_WORDS or not inflating.eof or inflating.unused_data:
        raise ValueError("what is stored was changed and cannot be read")
    return raw


def body(stored: bytes | None) -> bytes | None:
    """The kept body of a transaction; None once the player is forgotten. One that was changed so that it cannot be read
    is empty; the ledger's check says so.
    """
    try:
        return None if stored is None else unpack(stored)
    except ValueError:
        return b""


def figures(stored: bytes) -> dict[str, str]:
    """The partner's money figures, name -> digits as they came; none where they were changed and cannot be read."""
    try:
        return {str(name): str(value) for name, value in json.loads(unpack(stored)).items()}
    except ValueError:
        return {}
