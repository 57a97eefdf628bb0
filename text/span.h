/* span: a stretch of a text.  Not for other folders. */
#ifndef TEXT_SPAN_H
#define TEXT_SPAN_H

#include <stddef.h>

struct text_span {
    size_t start, end; /* from `start` to before `end`, in bytes */
};

#endif
