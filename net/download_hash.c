/* download_hash: the file's front is hashed while the rest comes: pieces are begun in order, so the front grows. */
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/download_state.h"

enum { SLICE_BYTES = 2 << 20 };

void hash_begin(struct download *d)
{
    crypto_hash_sha256_init(&d->hash);
    d->hashed = 0;
    if (!d->hash_bytes)
        d->hash_bytes = mem_alloc(SLICE_BYTES);
}

bool hash_some(struct download *d)
{
    uint64_t front = d->have.n > 0 && d->have.at[0].offset == 0 ? d->have.at[0].bytes : 0;
    if (!d->o->sha256 || d->o->wanted || d->hashed >= front || d->status != 0)
        return false;
    uint64_t left = front - d->hashed;
    ssize_t n = pread(d->fd, d->hash_bytes, left < SLICE_BYTES ? (size_t)left : SLICE_BYTES, (off_t)d->hashed);
    if (n <= 0) {
        d->status = error_set(d->e, ERR_IO, "cannot read %s", d->o->path);
        return false;
    }
    crypto_hash_sha256_update(&d->hash, d->hash_bytes, (unsigned long long)n);
    d->hashed += (uint64_t)n;
    return true;
}

bool hash_is_right(struct download *d)
{
    uint8_t sum[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof(sum) + 1];
    if (d->hashed != d->o->bytes)
        return false;
    crypto_hash_sha256_final(&d->hash, sum);
    sodium_bin2hex(hex, sizeof(hex), sum, sizeof(sum));
    return strcasecmp(hex, d->o->sha256) == 0;
}
