/* cli_config.h - options from a YAML file: --config FILE. */
#ifndef CLI_CONFIG_H
#define CLI_CONFIG_H

#include "cli.h"

#define CLI_CONFIG_OPTION(value)                                                                                       \
    {                                                                                                                  \
        "config", "FILE", "options from this YAML file, one `name: value` a line; flags win", CLI_STRING, value        \
    }

/* Reads the file, and calls `set` for each of its entries, until that returns something else than CLI_GO_ON. `where` is
 * "FILE:LINE". Values live until the process ends. The last code, or that of a failure to read the file. */
int cli_config_read(const char *command, const char *path,
                    int (*set)(void *ctx, const char *where, const char *name, const char *value), void *ctx);

#endif
