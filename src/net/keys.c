/* keys.c - CURVE keys made, written and read. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/base.h"
#include "net/transport.h"

enum { KEY_CHARS = sizeof(cw_key) - 1 };

/* What stands above a key, for people and for the reader below. */
static const char about_secret[] = "cutwire secret key", about_public[] = "cutwire public key";

/* Past stdio, which would leave a copy in its buffer. */
static bool write_line(int fd, const char *about, const char *advice, const cw_key *key)
{
    char text[200];
    int size = snprintf(text, sizeof text, "# %s%s\n%s\n", about, advice, key->text);
    bool written = write(fd, text, (size_t)size) == size && fsync(fd) == 0;
    cwi_wipe(text, sizeof text);
    return written;
}

static cw_status write_key(const char *path, const cw_key *key, const char *about, const char *advice, mode_t mode,
                           cw_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return cwi_fail(err, CW_ERR_IO, "cannot write %s: %s%s", path, strerror(errno),
                        errno == EEXIST ? "; move it away first, if it is not needed any more" : "");
    bool written = write_line(fd, about, advice, key);
    int reason = errno;
    if (close(fd) == 0 && written)
        return CW_OK;
    unlink(path);
    return cwi_fail(err, CW_ERR_IO, "cannot write %s: %s", path, strerror(written ? errno : reason));
}

cw_status cw_net_keygen(const char *path, cw_key *public_key, cw_error *err)
{
    cw_key open_key, secret;
    char public_path[4096];
    if (!path || (size_t)snprintf(public_path, sizeof public_path, "%s.pub", path) >= sizeof public_path)
        return cwi_fail(err, CW_ERR_INVALID, "no path for the keys, or one that is too long");
    if (zmq_curve_keypair(open_key.text, secret.text) < 0)
        return cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ cannot make keys: %s", zmq_strerror(errno));
    cw_status status = write_key(path, &secret, about_secret, ": keep it to yourself", 0600, err);
    cwi_wipe(&secret, sizeof secret);
    CWI_TRY(status);
    status = write_key(public_path, &open_key, about_public, "", 0644, err);
    if (status != CW_OK)
        unlink(path);
    else if (public_key)
        *public_key = open_key;
    return status;
}

cw_status cwi_key_of_token(uint64_t token, cw_key *key, cw_error *err)
{
    uint64_t secret[4]; /* spread over all of a key's 256 bits: one of a known few is found by less than trying all */
    cw_key text;
    cwi_rng stream = cwi_rng_make(token, CWI_STREAM_OWNER, 0, 0);
    for (size_t i = 0; i < CWI_COUNT(secret); i++)
        secret[i] = cwi_rng_u64(&stream);
    const bool made = zmq_z85_encode(text.text, (const uint8_t *)secret, sizeof secret) != NULL &&
                      zmq_curve_public(key->text, text.text) == 0;
    cwi_wipe(secret, sizeof secret);
    cwi_wipe(&text, sizeof text);
    return made ? CW_OK : cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ cannot make keys: %s", zmq_strerror(errno));
}

static bool is_key(const char *text, size_t length)
{
    uint8_t binary[32];
    char copy[KEY_CHARS + 1];
    if (length != KEY_CHARS)
        return false;
    memcpy(copy, text, KEY_CHARS);
    copy[KEY_CHARS] = 0;
    bool valid = zmq_z85_decode(binary, copy) != NULL;
    cwi_wipe(binary, sizeof binary);
    cwi_wipe(copy, sizeof copy);
    return valid;
}

static cw_status append_key(cw_key **keys, size_t *count, const char *text, cw_error *err)
{
    cw_key *grown = cwi_alloc(*count + 1, sizeof *grown);
    if (!grown)
        return cwi_fail_memory(err, (*count + 1) * sizeof *grown);
    if (*count)
        memcpy(grown, *keys, *count * sizeof *grown);
    memcpy(grown[*count].text, text, KEY_CHARS);
    grown[*count].text[KEY_CHARS] = 0;
    cw_net_free_keys(*keys, *count);
    *keys = grown;
    ++*count;
    return CW_OK;
}

/* An empty line, or one for people; `length`: of its first word. A key may begin with #, but goes on. */
static bool is_remark(const char *line, size_t length)
{
    return !line[strspn(line, " \t\r\n")] || (length == 1 && line[0] == '#');
}

/* What a remark says of the key below it; CW_KEY_ANY: nothing. */
static cw_key_kind kind_said(const char *remark)
{
    remark += strspn(remark, "# \t");
    if (strncmp(remark, about_secret, sizeof about_secret - 1) == 0)
        return CW_KEY_SECRET;
    return strncmp(remark, about_public, sizeof about_public - 1) == 0 ? CW_KEY_PUBLIC : CW_KEY_ANY;
}

typedef struct key_reader {
    const char *path;
    cw_key_kind wanted, said;
    cw_key **keys;
    size_t *count;
} key_reader;

static cw_status take_line(key_reader *r, const char *line, uint64_t number, cw_error *err)
{
    const size_t length = strcspn(line, " \t\r\n");
    if (!is_key(line, length)) {
        if (!is_remark(line, length))
            return cwi_fail_at(err, CW_ERR_CORRUPT, number, "%s, line %llu: not a key, which has 40 characters",
                               r->path, (unsigned long long)number);
        r->said = line[0] == '#' ? kind_said(line) : r->said;
        return CW_OK;
    }
    if (r->wanted != CW_KEY_ANY && r->said != CW_KEY_ANY && r->said != r->wanted)
        return cwi_fail_at(err, CW_ERR_MISMATCH, number, "%s, line %llu: a %s key, where a %s one belongs", r->path,
                           (unsigned long long)number, r->said == CW_KEY_SECRET ? "secret" : "public",
                           r->wanted == CW_KEY_SECRET ? "secret" : "public");
    r->said = CW_KEY_ANY;
    return append_key(r->keys, r->count, line, err);
}

static cw_status read_lines(key_reader *r, FILE *f, char *line, int size, cw_error *err)
{
    for (uint64_t number = 1; fgets(line, size, f); number++) {
        const size_t mark = number == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* some editors' */
        CWI_TRY(take_line(r, line + mark, number, err));
        while (!strchr(line, '\n') && fgets(line, size, f))
            ; /* the rest of a long line is for people */
    }
    if (ferror(f))
        return cwi_fail(err, CW_ERR_IO, "cannot read %s: %s", r->path, strerror(errno));
    return *r->count ? CW_OK : cwi_fail(err, CW_ERR_CORRUPT, "%s holds no key", r->path);
}

cw_status cw_net_read_keys_of(const char *path, cw_key_kind kind, cw_key **keys, size_t *count, cw_error *err)
{
    if (!path || !keys || !count)
        return cwi_fail(err, CW_ERR_INVALID, "cw_net_read_keys: a NULL argument");
    *keys = NULL;
    *count = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return cwi_fail(err, CW_ERR_IO, "cannot open the keys in %s: %s", path, strerror(errno));
    char line[1024], buffer[1024];
    (void)setvbuf(f, buffer, _IOFBF, sizeof buffer); /* ours, to be wiped */
    key_reader reader = {.path = path, .wanted = kind, .keys = keys, .count = count};
    cw_status status = read_lines(&reader, f, line, sizeof line, err);
    fclose(f);
    cwi_wipe(line, sizeof line);
    cwi_wipe(buffer, sizeof buffer);
    if (status != CW_OK) {
        cw_net_free_keys(*keys, *count);
        *keys = NULL;
        *count = 0;
    }
    return status;
}

cw_status cw_net_read_keys(const char *path, cw_key **keys, size_t *count, cw_error *err)
{
    return cw_net_read_keys_of(path, CW_KEY_ANY, keys, count, err);
}

void cw_net_free_keys(cw_key *keys, size_t count)
{
    if (keys)
        cwi_wipe(keys, count * sizeof *keys);
    cwi_free(keys);
}
