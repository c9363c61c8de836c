/* cli_files.h - files that options name, where "-" is standard input or output. */
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include "cli.h"

/* For messages: the path, or "standard input". */
const char *cli_input_name(const char *path);

/* The whole of a file or of standard input. CLI_GO_ON, or an exit code with a message printed. */
typedef struct cli_input {
    uint8_t *data;
    size_t size;
    bool standard; /* from standard input */
} cli_input;
int cli_input_read(const char *command, const char *path, cli_input *in);
void cli_input_free(cli_input *in);

/* The tensor of a .npy file, or of one on standard input. CLI_GO_ON, or an exit code with a message printed. */
int cli_npy_read(const char *command, const char *path, cw_tensor *out);

/* Before any work: that --out names neither the input's own file nor, as "-", a terminal or the place of a JSON
 * object. CLI_GO_ON, or a usage error. */
int cli_output_check(const char *command, const char *in, const char *out, bool json);
bool cli_is_standard(const char *path);
/* CLI_GO_ON, or an exit code with a message printed; whether standard output took the bytes main.c sees to. */
int cli_output_write(const char *command, const char *path, const void *bytes, size_t size);
int cli_npy_write(const char *command, const char *path, const cw_tensor *t);

#endif
