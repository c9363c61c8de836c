/* processes.h - client processes on this machine, for `train --processes`. */
#ifndef CLI_PROCESSES_H
#define CLI_PROCESSES_H

#include "cli.h"

/* Starts as many copies as there are clients of this program as `cutwire client` connected to endpoint. They end with
 * this process, whatever ends it, and a ctrl-C at the terminal reaches this process only. Returns false, with a message
 * printed, when one cannot be started. */
bool processes_start(const cw_config *config, const char *endpoint);
/* Waits for all of them, at most `seconds`, then ends those that are left. Returns how many failed. */
int processes_wait(double seconds);

#endif
