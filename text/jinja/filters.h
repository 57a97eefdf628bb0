/* filters: the tables that the filters of templates are spread over.  Not for other folders. */
#ifndef TEXT_JINJA_FILTERS_H
#define TEXT_JINJA_FILTERS_H

#include "text/jinja/render.h"

/* NULL-terminated by a row without a name. */
extern const struct builtin text_filters[];
extern const struct builtin list_filters[];
extern const struct builtin number_filters[];

#endif
