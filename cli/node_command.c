/* node_command: shoal node: start the daemon and wait until it ends or is told to. */
#include <stdio.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/heads.h"
#include "cli/interrupt.h"
#include "node/node.h"

enum { WAIT_MS = 200 };

int node_command(const struct settings *s, struct error *e)
{
    int r = heads_log_level(s, e);
    if (r != 0)
        return r;
    char *state = heads_state_dir(s, "node");
    struct node_options o = {
        .invite = settings_text(s, "join"),
        .name = settings_text(s, "name"),
        .state_dir = state,
        .cache_dir = settings_text(s, "cache_dir"),
        .model_path = settings_text(s, "model"),
        .listen = settings_text(s, "listen"),
        .advertise = settings_text(s, "advertise"),
        .backend = settings_text(s, "backend"),
        .isa = settings_text(s, "isa"),
        .threads = (int)settings_count(s, "threads"),
        .pin = settings_switch(s, "pin"),
        .memory_bytes = settings_count(s, "memory"),
        .progress = isatty(STDERR_FILENO),
    };
    struct node *n;
    r = node_start(&n, &o, e);
    if (r == ERR_NOT_FOUND && !o.invite)
        r = error_set(e, ERR_NOT_FOUND, "this node belongs to no cluster yet; give it the invite line that the "
                                        "coordinator prints: shoal node --join 'INVITE'");
    while (r == 0 && !interrupt_seen()) {
        r = node_wait(n, WAIT_MS, e);
        if (r != ERR_TIMEOUT)
            break;
        r = 0;
    }
    node_stop(&n);
    mem_free(state);
    return r;
}
