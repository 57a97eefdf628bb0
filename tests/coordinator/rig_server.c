/* rig_server: the API over the fake engine, for clients in other languages; it prints its port and lives until its
 * input ends. */
#include <stdio.h>
#include <string.h>

#include "tests/coordinator/api_rig.h"

int main(int argc, char **argv)
{
    void *state = NULL;
    if (rig_start_with_keys(&state) != 0)
        return 1;
    rig_say(state, argc > 1 ? argv[1] : "The capital of France is Paris.", NULL);
    printf("%u\n", api_port(((struct rig *)state)->api));
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return rig_stop(&state);
}
