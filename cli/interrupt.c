/* interrupt: a handler may touch nothing but flags, so these flags are the only statics of the process.
 *
 * A file that is mapped and becomes shorter, or lies on a disk that fails, ends the process when its bytes are
 * read: that is said, and the exit code is that of an input error.                                            */
#include "cli/interrupt.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

static volatile sig_atomic_t seen, ends, patient;

static void on_signal(int number)
{
    if (seen && !(patient && number == SIGINT))
        _exit(128 + number);
    seen = 1;
    if (number == SIGTERM)
        ends = 1;
}

static void on_lost_file(int number, siginfo_t *info, void *context)
{
    static const char words[] = "shoal: a file that is being read was cut short, or its disk fails\n";
    (void)context;
    if (info->si_code == BUS_ADRERR) {
        ssize_t n = write(STDERR_FILENO, words, sizeof(words) - 1);
        (void)n;
        _exit(status_exit(ERR_IO));
    }
    (void)signal(number, SIG_DFL); /* anything else is a fault of the program or the machine */
    (void)raise(number);
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
    action.sa_sigaction = on_lost_file;
    action.sa_flags = SA_SIGINFO;
    (void)sigaction(SIGBUS, &action, NULL);
}

bool interrupt_seen(void)
{
    return seen != 0;
}

void interrupt_forget(void)
{
    seen = ends;
}

void interrupt_patience(void)
{
    patient = 1;
}

bool interrupt_ends(void)
{
    return ends != 0;
}
