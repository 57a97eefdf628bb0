/* assembly: one step being put together from the frames of a link.
 *
 * Chunk 0 carries the metadata; the data of all chunks fills one preallocated
 * buffer of batch_rows_max rows.  Chunks of a step arrive in order on one link;
 * anything else is refused and the step is dropped.  Opens keep their biases and
 * rows their masks in the assembly's own arrays, so that the message can be let
 * go.              */
#ifndef NODE_ASSEMBLY_H
#define NODE_ASSEMBLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "proto/frame.h"

struct assembly {
    struct frame_header header; /* of chunk 0 */
    struct frame_row *rows;
    struct frame_open *opens;
    struct frame_bias *biases;
    size_t biases_max;
    uint64_t *ends;
    struct frame_trace *traces;
    struct frame_mask *masks;
    uint8_t *mask_bytes;
    size_t mask_bytes_max;
    uint32_t n_rows, n_opens, n_ends, n_traces, n_masks;
    float *data;          /* [rows, width] once complete */
    uint8_t *raw;         /* the wire's form when it is not float */
    size_t data_capacity; /* floats */
    size_t raw_bytes;     /* received */
    uint16_t next_chunk;
    bool open;            /* chunks are missing */
    uint64_t started_us;  /* receipt of chunk 0 */
};

MUST_USE int assembly_init(struct assembly *a, uint32_t rows_max, uint32_t width, struct error *e);
void assembly_close(struct assembly *a);
/* Add a frame; *complete says that the step can run. `expect_width`: 0 when the stage takes token ids. */
MUST_USE int assembly_add(struct assembly *a, const struct frame *f, uint32_t expect_width, uint32_t rows_max,
                          bool *complete, struct error *e);

#endif
