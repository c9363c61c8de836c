/* cli_man.h - manual pages, made from the tables that --help prints. */
#ifndef CLI_MAN_H
#define CLI_MAN_H

#include "cli.h"

/* `cutwire man DIR`, which the build calls: writes cutwire.1 and a page of each command into the folder. The commands
 * are run for that with cli_man_asked() true, and describe themselves by the two functions below instead of working. */
int cli_man(const cli_sub *commands, size_t count, int argc, char **argv);
bool cli_man_asked(void);
void cli_man_command(const cli_command *command);
void cli_man_group(const cli_group *group);

#endif
