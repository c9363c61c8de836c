/* commands.h - the commands; argv[0] is the command's name. Each returns the exit code. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cutwire/tensor.h"

int cmd_bench(int argc, char **argv);
int cmd_codec(int argc, char **argv);
int cmd_data(int argc, char **argv);
int cmd_models(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_server(int argc, char **argv);
int cmd_client(int argc, char **argv);
int cmd_keygen(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_repro(int argc, char **argv);

/* "3x32x32"; false unless it is one to three numbers. */
bool cli_parse_sample(const char *text, cw_shape *out);

#endif
