/* payload.h - the header of payloads. Internal; fuzz targets use cwi_payload_seal to get past the checksum. */
#ifndef CWI_PAYLOAD_H
#define CWI_PAYLOAD_H

#include "codec/codec_impl.h"

/* Of a payload that is encoded today. */
size_t cwi_header_size(const cwi_family *family, const cwi_value *value, const cw_shape *shape);
/* Writes the header; the checksum is left to cwi_payload_seal, once the body is there. */
void cwi_header_put(const cw_codec *codec, cw_dtype dtype, const cw_shape *shape, size_t body_size, uint8_t *out);
/* CRC-32C of the payload with its checksum field taken as zero; size >= 24. */
uint32_t cwi_payload_crc(const uint8_t *payload, size_t size);
void cwi_payload_seal(uint8_t *payload, size_t size);
/* Everything but the checksum and the contents of the body. */
cw_status cwi_payload_parse(const uint8_t *src, size_t size, cwi_payload *p, cw_error *err);

#endif
