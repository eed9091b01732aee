"""The one registry of tag bytes: every hash and every signature starts with one of these.

Not here: what follows the tag (codec and the format modules). Invariants: no two tags clash; none
can be the first byte of a text, so that no tagged message is a signed note: those below 0x40 are
no letters, 0x80 to 0xbf continue a character in UTF-8, never begin one, and 0xc0, 0xc1 and 0xf5 to
0xff are in no UTF-8 at all.
Source: docs of this room (README.md); RFC 6962 section 2.1 for LEAF and NODE.
"""

from __future__ import annotations

# Merkle trees (SHA-256)
LEAF = b"\x00"
NODE = b"\x01"
# Reserved for the chain: named here so that nothing else takes them.
BLOCK_HEADER = b"\x10"
BPCI_FRAME = b"\x11"
POH_TICK = b"\x12"
# A container's chain (BLAKE3); RECEIPT is also the first byte of a receipt.
RECEIPT = b"\x13"
GENESIS = b"\x14"
SALT = b"\x15"
HOST_ID = b"\x16"
SEALING_KEY = b"\x17"
CERTIFICATE_HASH = b"\x1b"
MLDSA_SEED = b"\x1c"
# First bytes of encoded objects
SEGMENT_HEADER = b"\x18"
CERTIFICATE = b"\x19"
SEAL = b"\x1a"
# First bytes of host-log leaves
LOG_BOOT = b"\x20"
LOG_KEY = b"\x21"
LOG_START = b"\x22"
LOG_SEGMENT = b"\x23"
LOG_EXIT = b"\x24"
LOG_OPERATION = b"\x25"
LOG_REVOCATION = b"\x26"
LOG_MLDSA_KEY = b"\x27"
# A notary's: first bytes of a LogBlock and a PoE bundle; what names a block, what names a notary
LOGBLOCK = b"\x28"
POE_BUNDLE = b"\x29"
LOGBLOCK_HASH = b"\x2a"
NOTARY_ID = b"\x2b"
# What a signature is over: one of these bytes, then the message
SIGN_RECEIPT = b"\x30"
SIGN_SEGMENT = b"\x31"
SIGN_CERTIFICATE = b"\x32"
SIGN_SEAL = b"\x33"
SIGN_KEY = b"\x34"
# The running check of an evidence file
FILE_FRAME = b"\x38"
# What a notary's signature is over
SIGN_LOGBLOCK = b"\x3a"
SIGN_POE_BUNDLE = b"\x3b"
SIGN_NOTARY_SEAL = b"\x3c"
# Consensus: first bytes of its messages, what a digest and a set are over, what a vote is over
MESSAGE_PROPOSAL = b"\x80"
MESSAGE_PREPARE = b"\x81"
MESSAGE_COMMIT = b"\x82"
MESSAGE_ROUND_CHANGE = b"\x83"
MESSAGE_NEW_BLOCK = b"\x84"
SEAL_DIGEST = b"\x85"
VALIDATOR_SET = b"\x86"
SIGN_PROPOSAL = b"\x88"
SIGN_PREPARE = b"\x89"
SIGN_COMMIT = b"\x8a"
SIGN_ROUND_CHANGE = b"\x8b"
BLOCK = b"\x8c"
SEALS = b"\x8d"
EQUIVOCATION = b"\x8e"
VOTE_LOG = b"\x8f"
# The ledger: first bytes of a transaction and of each operation's claim
TRANSACTION = b"\x90"
SIGN_TRANSACTION = b"\x91"
OPERATION_ANCHOR = b"\x92"
OPERATION_REGISTER = b"\x93"
OPERATION_ROTATE = b"\x94"
OPERATION_REVOKE = b"\x95"
OPERATION_VOTES = b"\x96"
OPERATION_FORK = b"\x97"
OPERATION_AVAILABLE = b"\x98"
OPERATION_LOGBLOCK = b"\x99"
OPERATION_POE = b"\x9a"
OPERATION_MEMBER = b"\x9b"
OPERATION_PARAMETER = b"\x9c"
OPERATION_STATEMENT = b"\x9d"
SIGN_POSSESSION = b"\x9f"
# Its state: a leaf, a node, where a key lies, a proof; genesis, chain id, snapshot
STATE_LEAF = b"\xa0"
STATE_NODE = b"\xa1"
CHAIN_GENESIS = b"\xa2"
CHAIN_ID = b"\xa3"
SNAPSHOT = b"\xa4"
SNAPSHOT_CHUNK = b"\xa5"
STATE_KEY = b"\xa6"
STATE_PROOF = b"\xa7"
STATE_VALUE = b"\xa8"
SNAPSHOT_LINKS = b"\xa9"
WANT_SNAPSHOT = b"\xaa"
# Bodies of a host's log: what a host offers, what a node knows of a host, what a file has of it
OFFER = b"\xac"
HOST_BODIES = b"\xad"
BODIES_FRAME = b"\xae"
OFFER_ACK = b"\xaf"
# What nodes tell each other beside votes
NODE_STATUS = b"\xb8"
WANT_BLOCKS = b"\xb9"
BLOCKS = b"\xba"
TRANSACTIONS = b"\xbb"
VERDICTS = b"\xbc"
WANT_HOST = b"\xbd"
HOST_STATUS = b"\xbe"
WANT_CHECKPOINT = b"\xbf"
# Nodes: first bytes of what registers and greets them and of what they tell; what is signed
REGISTRATION = b"\xb0"
SIGN_REGISTRATION = b"\xb1"
GREETING = b"\xb2"
INTRODUCTION = b"\xb3"
GOSSIP_VECTOR = b"\xb4"
GOSSIP_WANT = b"\xb5"
GOSSIP_RANGE = b"\xb6"
SIGN_ENVELOPE = b"\xb7"
# The server that takes hosts' evidence (bpci): a batch, an acknowledgement, a leaf of the server's
# log; what an acknowledgement's signature is over; what a value at rest and its key are sealed with
BPCI_BATCH = b"\xc0"
BPCI_ACKNOWLEDGEMENT = b"\xc1"
BPCI_HELD = b"\xf5"
SIGN_ACKNOWLEDGEMENT = b"\xf6"
BPCI_AT_REST = b"\xf7"
# Calls through the HTTP cage: first byte of a receipt, what names it, first byte of a signed one
CALL_RECEIPT = b"\xf8"
CALL_RECEIPT_HASH = b"\xf9"
SIGNED_CALL_RECEIPT = b"\xfa"
# A server's word that somebody may enrol: its first byte, what its signature is over (and that on a
# member's next key); the first byte of an act, and of such a next key
BPCI_GRANT = b"\xfb"
SIGN_GRANT = b"\xfc"
BPCI_ACT = b"\xfd"
# What the seal of a server's export is over
SIGN_EXPORT = b"\xfe"
