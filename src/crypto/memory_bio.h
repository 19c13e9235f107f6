// Bytes as OpenSSL's PEM readers take them.
#pragma once

#include <memory>

#include "base/bytes.h"

struct bio_st;

namespace hf::crypto {

struct BioFree {
  void operator()(bio_st* bio) const;
};
using BioHandle = std::unique_ptr<bio_st, BioFree>;

// Reads `bytes`, which must outlive it, and never writes. No bytes are an end at once, also where
// the span has no address (an empty vector's): BIO_new_mem_buf() itself refuses that one. What is
// longer than INT_MAX is cut there.
BioHandle reader_of(ByteSpan bytes);

}  // namespace hf::crypto
