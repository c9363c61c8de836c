/* cli_profile.h - codecs whose spec names a profile's file. Such specs are local: what comes from a peer is read by the
 * library, which opens no file. */
#ifndef CLI_PROFILE_H
#define CLI_PROFILE_H

#include "cli.h"

/* The codec of a spec that may have profile=PATH among its keys, and the profile, or NULL. Both are the caller's, on
 * failure too. CLI_GO_ON, or an exit code with a message printed. */
int cli_codec_open(const char *command, const char *spec, cw_codec **codec, cw_profile **profile);
/* Of a file, or with path NULL none. */
int cli_profile_read(const char *command, const char *path, cw_profile **profile);

#endif
