/* commands.h - the commands; argv[0] is the command's name. Each returns the exit code. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

int cmd_bench(int argc, char **argv);
int cmd_codec(int argc, char **argv);
int cmd_codec_train(int argc, char **argv); /* of codec's subcommands the one that learns */
int cmd_data(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_infer(int argc, char **argv);
int cmd_models(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_server(int argc, char **argv);
int cmd_client(int argc, char **argv);
int cmd_keygen(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_repro(int argc, char **argv);
int cmd_study(int argc, char **argv);

#endif
