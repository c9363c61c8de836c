/* places.h - whose the places of a run are, kept in its folder for a server that begins anew. Internal.
 *
 * places.json is {"format": 1, "places": ["KEY", ...]}: of each client, in order, the public key that names who has its
 * place or had it last, "" for nobody. Clients without keys are named by one made from their token, which does not tell
 * that. The file is there while a run may go on with the same clients: it is written when somebody gets a place, and
 * removed when clients are told that the run is over. */
#ifndef CWI_PLACES_H
#define CWI_PLACES_H

#include "record/report.h"
#include "session/session.h"

typedef struct cwi_places {
    char (*owners)[41]; /* as the file has them; NULL: there is none */
    size_t count;
    char path[sizeof((cw_config *)0)->out + 40]; /* where they are kept; "": nowhere */
    uint64_t written;                            /* changes of the session that the file has */
    bool failed;                                 /* the last attempt, which was told */
} cwi_places;

/* Of the run that config.resume names, when it names one. A file that is no good is told, and holds no place.
 * CW_ERR_NO_MEMORY. */
cw_status cwi_places_open(const cw_config *config, const cwi_report *report, cwi_places *places, cw_error *err);
void cwi_places_close(cwi_places *places);
/* Writes the file when places have got other owners. A failure is told once, and leaves the file as it was. */
void cwi_places_keep(cwi_places *places, cwi_session *session, const cwi_report *report);
/* Nobody is to come back. */
void cwi_places_forget(cwi_places *places);

#endif
