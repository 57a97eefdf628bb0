/* invite: fixed fields, a host, a checksum; base64url without padding after a prefix that names the version.
 *
 *   u8 version   i64 expires   u16 port   u8 host bytes   host
 *   coordinator key 32   signing key 32   id 8   secret 16   checksum 8
 *
 * The checksum is BLAKE2b of all before it.  It finds mistakes, not attacks:
 * who can change the line can change the checksum, and does not know the secret. */
#include "net/invite.h"

#include <sodium.h>
#include <string.h>

#include "base/buffer.h"
#include "base/view.h"

enum {
    VERSION = 1,
    FIXED_BYTES = 1 + 8 + 2 + 1,
    TAIL_BYTES = KEY_BYTES + SIGN_PUBLIC_BYTES + INVITE_ID_BYTES + INVITE_SECRET_BYTES,
    CHECKSUM_BYTES = 8,
    BYTES_MAX = FIXED_BYTES + INVITE_HOST_MAX + TAIL_BYTES + CHECKSUM_BYTES,
};
static const char name[] = "shoal", prefix[] = "shoal1.";
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

_Static_assert((BYTES_MAX + 2) / 3 * 4 + sizeof(prefix) <= INVITE_TEXT_MAX, "an invite fits its text");
_Static_assert(INVITE_HOST_MAX <= 256, "a host's length is one byte");
_Static_assert(INVITE_SECRET_BYTES >= crypto_generichash_KEYBYTES_MIN, "a secret keys the hash");

static void checksum(const void *bytes, size_t n, uint8_t sum[CHECKSUM_BYTES])
{
    uint8_t hash[32];
    crypto_generichash(hash, sizeof(hash), bytes, n, NULL, 0);
    memcpy(sum, hash, CHECKSUM_BYTES);
}

void invite_text(const struct invite *i, char text[static INVITE_TEXT_MAX])
{
    struct buffer b;
    uint8_t sum[CHECKSUM_BYTES];
    size_t host = strnlen(i->host, INVITE_HOST_MAX - 1);
    buffer_init(&b, BYTES_MAX);
    buffer_u8(&b, VERSION);
    buffer_u64(&b, (uint64_t)i->expires);
    buffer_u16(&b, i->port);
    buffer_u8(&b, (uint8_t)host);
    buffer_add(&b, i->host, host);
    buffer_add(&b, i->coordinator_key, sizeof(i->coordinator_key));
    buffer_add(&b, i->sign_public, sizeof(i->sign_public));
    buffer_add(&b, i->id, sizeof(i->id));
    buffer_add(&b, i->secret, sizeof(i->secret));
    checksum(b.data, b.len, sum);
    buffer_add(&b, sum, sizeof(sum));
    memcpy(text, prefix, sizeof(prefix));
    sodium_bin2base64(text + sizeof(prefix) - 1, INVITE_TEXT_MAX - sizeof(prefix) + 1, (const uint8_t *)b.data, b.len,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(b.data, b.len);
    buffer_close(&b);
}

/* The host goes into an endpoint, where other characters would have a meaning of their own. */
static bool host_ok(const char *host, size_t n)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:%";
    return n > 0 && n < INVITE_HOST_MAX && memchr(host, 0, n) == NULL && strspn(host, allowed) == n;
}

/* `chars` of base64 gave n bytes: fewer than they could when the last one has bits that mean nothing. */
static int decode_fields(struct invite *i, const uint8_t *bytes, size_t n, size_t chars, struct error *e)
{
    struct view v = view_of(bytes, n);
    uint8_t sum[CHECKSUM_BYTES];
    uint8_t version = view_u8(&v);
    i->expires = (int64_t)view_u64(&v);
    i->port = view_u16(&v);
    size_t host = view_u8(&v);
    size_t whole = FIXED_BYTES + host + TAIL_BYTES + CHECKSUM_BYTES;
    if (v.bad || chars < (whole * 4 + 2) / 3)
        return error_set(e, ERR_INVALID, "the invite is cut: copy the whole line");
    if (n == whole)
        checksum(bytes, n - CHECKSUM_BYTES, sum);
    if (n != whole || memcmp(sum, bytes + n - CHECKSUM_BYTES, sizeof(sum)) != 0)
        return error_set(e, ERR_INVALID, "the invite is mistyped: copy it again");
    if (version != VERSION)
        return error_set(e, ERR_INVALID, "the invite is of another version (%u) than this program knows", version);
    memcpy(i->host, view_bytes(&v, host), host);
    if (!host_ok(i->host, host) || i->port == 0)
        return error_set(e, ERR_INVALID, "the invite names no host and port that could be dialled");
    memcpy(i->coordinator_key, view_bytes(&v, KEY_BYTES), KEY_BYTES);
    memcpy(i->sign_public, view_bytes(&v, SIGN_PUBLIC_BYTES), SIGN_PUBLIC_BYTES);
    memcpy(i->id, view_bytes(&v, INVITE_ID_BYTES), INVITE_ID_BYTES);
    memcpy(i->secret, view_bytes(&v, INVITE_SECRET_BYTES), INVITE_SECRET_BYTES);
    return 0;
}

static int check_prefix(const char *text, size_t n, struct error *e)
{
    size_t known = sizeof(prefix) - 1;
    if (n >= known && memcmp(text, prefix, known) == 0)
        return 0;
    if (n < known && memcmp(text, prefix, n) == 0)
        return error_set(e, ERR_INVALID, "the invite is cut: copy the whole line");
    size_t digits = strspn(text + (n < sizeof(name) - 1 ? n : sizeof(name) - 1), "0123456789");
    if (n > known && memcmp(text, name, sizeof(name) - 1) == 0 && digits > 0 && text[sizeof(name) - 1 + digits] == '.')
        return error_set(e, ERR_INVALID, "the invite is of another version than this program knows");
    return error_set(e, ERR_INVALID, "this is no invite: one begins with \"%s\"", prefix);
}

static int decode(uint8_t *bytes, size_t cap, const char *text, size_t n, size_t *got)
{
    const char *end;
    return sodium_base642bin(bytes, cap, text, n, NULL, got, &end, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

int invite_parse(struct invite *i, const char *text, struct error *e)
{
    static const char blanks[] = " \t\r\n";
    uint8_t bytes[BYTES_MAX];
    size_t got = 0;
    memset(i, 0, sizeof(*i));
    text += strspn(text, blanks);
    size_t n = strcspn(text, blanks);
    if (text[n + strspn(text + n, blanks)] != 0)
        return error_set(e, ERR_INVALID, "the invite is mistyped: it is one word without blanks");
    int r = check_prefix(text, n, e);
    if (r != 0)
        return r;
    text += sizeof(prefix) - 1;
    n -= sizeof(prefix) - 1;
    if (strspn(text, alphabet) < n || n > BYTES_MAX * 4 / 3)
        return error_set(e, ERR_INVALID, "the invite is mistyped: copy it again");
    if (decode(bytes, sizeof(bytes), text, n, &got) != 0)
        (void)decode(bytes, sizeof(bytes), text, n / 4 * 4, &got);
    r = decode_fields(i, bytes, got, n, e);
    sodium_memzero(bytes, sizeof(bytes));
    if (r != 0)
        sodium_memzero(i, sizeof(*i));
    return r;
}

void invite_proof(const uint8_t secret[INVITE_SECRET_BYTES], const uint8_t node_key[KEY_BYTES],
                  const uint8_t coordinator_key[KEY_BYTES], const uint8_t nonce[INVITE_NONCE_BYTES],
                  uint8_t proof[INVITE_PROOF_BYTES])
{
    crypto_generichash_state s;
    crypto_generichash_init(&s, secret, INVITE_SECRET_BYTES, INVITE_PROOF_BYTES);
    crypto_generichash_update(&s, node_key, KEY_BYTES);
    crypto_generichash_update(&s, coordinator_key, KEY_BYTES);
    crypto_generichash_update(&s, nonce, INVITE_NONCE_BYTES);
    crypto_generichash_final(&s, proof, INVITE_PROOF_BYTES);
}
