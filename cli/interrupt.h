/* interrupt: Ctrl-C and SIGTERM ask the process to stop; a second one ends it at once. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>

void interrupt_catch(void); /* once, in main, before any thread */
bool interrupt_seen(void);
void interrupt_forget(void); /* a chat goes on after an answer was cut short */

#endif
