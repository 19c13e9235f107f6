// For fuzz targets: what the fuzzer gives, as the programs give it to a parser.
#pragma once

#include "base/bytes.h"

namespace hf {

// libFuzzer's input of no bytes has an address; an empty file's, field's or vector's has none.
inline ByteSpan fuzz_input(const uint8_t* data, size_t size) {
  return size == 0 ? ByteSpan() : std::as_bytes(std::span(data, size));
}

}  // namespace hf
