/* whole: texts grow in buffers; calls are numbered as they come. */
#include "coordinator/api/whole.h"

#include <string.h>

#include "base/memory.h"

enum { WHOLE_MAX = 64 << 20 }; /* bytes of each text */

void whole_init(struct whole *w)
{
    *w = (struct whole){ 0 };
    buffer_init(&w->text, WHOLE_MAX);
    buffer_init(&w->reasoning, WHOLE_MAX);
}

void whole_close(struct whole *w)
{
    for (size_t i = 0; i < w->n_calls; i++) {
        mem_free(w->calls[i].id);
        mem_free(w->calls[i].name);
        buffer_close(&w->calls[i].arguments);
    }
    mem_free(w->calls);
    mem_free(w->shown);
    mem_free(w->tokens);
    mem_free(w->stop_word);
    buffer_close(&w->text);
    buffer_close(&w->reasoning);
}

static void call_add(struct whole *w, const struct piece *p)
{
    w->calls = mem_resize(w->calls, w->n_calls + 1, sizeof(*w->calls));
    struct whole_call *call = &w->calls[w->n_calls++];
    *call = (struct whole_call){ .id = mem_strdup(p->call_id), .name = mem_strdup(p->call_name) };
    buffer_init(&call->arguments, WHOLE_MAX);
}

static void text_add(struct whole *w, const struct piece *p)
{
    switch (p->kind) {
    case PIECE_TEXT: buffer_add(&w->text, p->text, p->len); break;
    case PIECE_REASONING: buffer_add(&w->reasoning, p->text, p->len); break;
    case PIECE_CALL: call_add(w, p); break;
    case PIECE_ARGUMENTS: buffer_add(&w->calls[p->call].arguments, p->text, p->len); break;
    }
}

void whole_add(struct whole *w, const struct piece *p)
{
    text_add(w, p);
    if (p->n_tokens > 0) {
        w->tokens = mem_resize(w->tokens, w->n_tokens + p->n_tokens, sizeof(*w->tokens));
        memcpy(w->tokens + w->n_tokens, p->tokens, p->n_tokens * sizeof(*w->tokens));
        w->n_tokens += p->n_tokens;
    }
    w->finish = p->finish;
    if (p->stop_word != NULL && w->stop_word == NULL)
        w->stop_word = mem_strdup(p->stop_word);
}

void whole_choice(struct whole *w, struct choice_whole *out)
{
    if (w->n_calls > 0 && w->shown == NULL)
        w->shown = mem_array(w->n_calls, sizeof(*w->shown));
    for (size_t i = 0; i < w->n_calls; i++)
        w->shown[i] = (struct call_whole){ w->calls[i].id, w->calls[i].name, buffer_text(&w->calls[i].arguments) };
    *out = (struct choice_whole){
        .text = buffer_text(&w->text),
        .text_len = w->text.len,
        .reasoning = buffer_text(&w->reasoning),
        .reasoning_len = w->reasoning.len,
        .calls = w->shown,
        .n_calls = w->n_calls,
        .tokens = w->tokens,
        .n_tokens = w->n_tokens,
        .finish = w->finish,
        .stop_word = w->stop_word,
    };
}
