/* data_fetch.h - checksums of files, and downloads that go on where they stopped. */
#ifndef DATA_FETCH_H
#define DATA_FETCH_H

#include "cli.h"

/* "sha256:HEX" or "md5:HEX", like the wanted sum `like`, of a file; false when it cannot be read or `like` is
 * malformed. out holds 80 bytes. */
bool data_sum(const char *path, const char *like, char *out);

/* A sum as a person writes it, in either case, as data_sum writes it; false when it is not one. out holds 80 bytes. */
bool data_sum_parse(const char *text, char *out);

/* What a download is checked by: true for a sum that is right. */
typedef bool (*data_accepts)(void *ctx, const char *path);

/* Gets url into path by way of path.part, which stays when the link breaks and is continued the next time. A file that
 * is already there and accepted is left alone, unless `again`. CLI_OK, or CLI_FAILURE after the error has been printed.
 */
int data_download(const char *url, const char *path, bool again, data_accepts accepts, void *ctx,
                  cli_progress *progress);

/* Unpacks a .tar.gz into folder by the program tar. Exit code as above. */
int data_unpack(const char *archive, const char *folder);

#endif
