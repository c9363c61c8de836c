/* identity.h - who a client is, kept in a file: so that it gets its place back when it is started again. Internal. */
#ifndef CWI_IDENTITY_H
#define CWI_IDENTITY_H

#include "base/base.h"

/* The token that the file holds: 16 hexadecimal digits, and a newline. A file that is not there is made, with a random
 * one, and only its owner may read it: who has the token can take the place. CW_ERR_IO; CW_ERR_CORRUPT: another file.
 */
cw_status cwi_identity_token(const char *path, uint64_t *token, cw_error *err);

#endif
