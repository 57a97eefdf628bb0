/* interrupt: Ctrl-C and SIGTERM ask the process to stop; a second one ends it at once. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>

void interrupt_catch(void); /* once, in main, before any thread */
bool interrupt_seen(void);
void interrupt_forget(void); /* a chat goes on after an answer was cut short by Ctrl-C */
void interrupt_patience(void); /* from now on Ctrl-C ends nothing at once, however often it comes */
bool interrupt_ends(void);   /* it was SIGTERM: the program is to end, not only what it is doing */

#endif
