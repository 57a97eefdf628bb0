/* responses_kept: the last responses, to go on from and to read again.  Not for other folders.
 *
 * In memory only, as text, and few: the oldest make room.  Ids cannot be
 * guessed, but logs and screens show them, so each is for its owner only: the
 * id of an API key, or 0 for all who come without one.  Any thread may ask.   */
#ifndef COORDINATOR_API_RESPONSES_KEPT_H
#define COORDINATOR_API_RESPONSES_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

enum responses_limits {
    RESPONSES_KEPT = 1024,
    RESPONSES_BYTES_MAX = 64 << 20,
    RESPONSES_SHARE = 8, /* a response that needs more than the bytes divided by this is not kept */
};

/* The object itself; all items from the beginning of the conversation to its end. */
enum response_side { RESPONSE_OBJECT, RESPONSE_ITEMS, RESPONSE_SIDES };

struct responses_kept;

/* bytes_max: of the texts of all, RESPONSES_BYTES_MAX but for tests. */
struct responses_kept *responses_kept_create(size_t bytes_max);
void responses_kept_destroy(struct responses_kept **k);
void responses_kept_add(struct responses_kept *k, int64_t owner, const char *id, const json_t *object,
                        const json_t *items);
/* The caller's; NULL: the owner has none of this id (any more). */
json_t *responses_kept_get(struct responses_kept *k, int64_t owner, const char *id, enum response_side side);
/* False: there was none. */
bool responses_kept_drop(struct responses_kept *k, int64_t owner, const char *id);

#endif
