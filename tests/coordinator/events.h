/* events: streams of server-sent events as tests read them. */
#ifndef TESTS_COORDINATOR_EVENTS_H
#define TESTS_COORDINATOR_EVENTS_H

#include "base/buffer.h"
#include "coordinator/api/answer.h"

/* Every event's data as a list; fails the test where one is not named as its data's `type`, which each must have.
 * Comments are passed over. The caller's. */
json_t *events_of(const char *text);
/* Their types, one a line, repeated ones once; caller frees. */
char *events_types(const json_t *events);
/* The value at a path such as "0.delta.text"; NULL: nothing is there. */
const json_t *value_at(const json_t *j, const char *path);
/* Fails unless the value there is this JSON. */
void assert_json_at(const json_t *j, const char *path, const char *expected);

/* What a shape makes of these pieces, from its begin to its end; `len` of the pieces is set here. The caller's. */
json_t *events_of_pieces(const struct shape *shape, struct answer_view *v, const struct piece *pieces, size_t n);

#endif
