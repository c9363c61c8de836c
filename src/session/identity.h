/* identity.h - who a client is, kept in a file: so that it gets its place back when it is started again. Internal. */
#ifndef CWI_IDENTITY_H
#define CWI_IDENTITY_H

#include "base/base.h"

typedef struct cwi_identity {
    uint64_t token;
    uint32_t place; /* that it had last, for a server that has begun anew and knows no tokens; UINT32_MAX: none yet */
} cwi_identity;

/* What the file holds: the token as 16 hexadecimal digits, and below it "client N", N the place counted from 1, where
 * there was one. A file that is not there is made, with a random token, and only its owner may read it: who has the
 * token can take the place. CW_ERR_IO; CW_ERR_CORRUPT: another file. */
cw_status cwi_identity_open(const char *path, cwi_identity *id, cw_error *err);

/* Puts the place into the file, which is replaced as a whole. CW_ERR_IO: it is as it was. */
cw_status cwi_identity_keep_place(const char *path, cwi_identity *id, uint32_t place, cw_error *err);

#endif
