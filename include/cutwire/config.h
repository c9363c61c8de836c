/* cutwire/config.h - what a run is told: one table of keys behind options, files and messages; recipes by name.
 *
 * Thread-safety: a cw_config has no lock; from several threads at once it may be read, not written.
 */
#ifndef CUTWIRE_CONFIG_H
#define CUTWIRE_CONFIG_H

#include "cutwire/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque, so that a new key breaks no program: keys are set and asked for by name. */
typedef struct cw_config cw_config;

/* *out: every key at its default; owned by the caller. CW_ERR_NO_MEMORY. */
cw_status cw_config_create(cw_config **out, cw_error *err);
/* *out: another with the same values; owned by the caller. CW_ERR_NO_MEMORY. */
cw_status cw_config_copy(const cw_config *config, cw_config **out, cw_error *err);
/* NULL and a pointer to NULL are allowed; *config becomes NULL. */
void cw_config_destroy(cw_config **config);
/* Every key at its default again. */
void cw_config_reset(cw_config *config);

/* One key of the configuration, for --help, manifests and parsers. Static storage. */
typedef struct cw_config_option {
    const char *key;     /* "weight-decay" */
    const char *metavar; /* "X"; NULL for a switch */
    const char *help;
    const char *value; /* the default, as a string */
    bool shared;       /* the server's value holds for clients */
    bool client;       /* each client has its own; what is neither is of no use to a client */
} cw_config_option;
size_t cw_config_option_count(void);
const cw_config_option *cw_config_option_at(size_t i);

/* Sets one key from text ("lr", "0.1"; switches: NULL, "1" or "0"). CW_ERR_SPEC: unknown key, or a value that is
 * malformed or out of range; err says what is allowed. */
cw_status cw_config_set(cw_config *config, const char *key, const char *value, cw_error *err);
/* What a key is. The first three want it to be of that kind: a key that is not known, or of another kind, gives NULL
 * or 0. Borrowed: valid until the key is set again, or the configuration is destroyed. */
const char *cw_config_string(const cw_config *config, const char *key); /* "model"; never NULL for a key that is text */
uint64_t cw_config_integer(const cw_config *config, const char *key);   /* "epochs", "seed"; of a switch 0 or 1 */
double cw_config_real(const cw_config *config, const char *key);        /* "lr" */
/* Any key as the text that cw_config_set takes for it. CW_ERR_SPEC: unknown key. CW_ERR_TOO_SMALL: more than size - 1
 * characters; text is "" then. */
cw_status cw_config_get(const cw_config *config, const char *key, char *text, size_t size, cw_error *err);
/* Every key but `overwrite` as one JSON object (owned by the caller, cw_bytes_free after a cast), or with shared_only
 * those that travel. JSON is UTF-8: bytes of a path that are not become U+FFFD. */
cw_status cw_config_to_json(const cw_config *config, bool shared_only, char **json, cw_error *err);
/* Applies a JSON object of keys. Unknown keys are refused. CW_ERR_SPEC. */
cw_status cw_config_from_json(cw_config *config, const char *json, size_t size, cw_error *err);

/* A recipe by name: data, model, epochs, batch, rate, schedule, decay, augmentation. 0 <= i < cw_preset_count(). Static
 * storage. */
typedef struct cw_preset {
    const char *name;
    const char *summary;
    const char *settings; /* "KEY=VALUE KEY=VALUE ..." */
} cw_preset;
size_t cw_preset_count(void);
const cw_preset *cw_preset_at(size_t i);
/* Sets the keys that the preset names and leaves all others. CW_ERR_SPEC: unknown; err lists the known ones. */
cw_status cw_config_apply_preset(cw_config *config, const char *name, cw_error *err);

#ifdef __cplusplus
}
#endif
#endif
