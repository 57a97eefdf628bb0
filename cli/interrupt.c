/* interrupt: a handler may touch nothing but a flag, so the flag is the one static of the process. */
#include "cli/interrupt.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t seen;

static void on_signal(int number)
{
    if (seen)
        _exit(128 + number);
    seen = 1;
}

void interrupt_catch(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
}

bool interrupt_seen(void)
{
    return seen != 0;
}

void interrupt_forget(void)
{
    seen = 0;
}
