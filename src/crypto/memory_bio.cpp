#include "crypto/memory_bio.h"

#include <openssl/bio.h>

#include <algorithm>
#include <climits>

namespace hf::crypto {

void BioFree::operator()(bio_st* bio) const { BIO_free(bio); }

BioHandle reader_of(ByteSpan bytes) {
  const void* from = bytes.empty() ? static_cast<const void*>("") : bytes.data();
  BioHandle bio(BIO_new_mem_buf(from, static_cast<int>(std::min<size_t>(bytes.size(), INT_MAX))));
  HF_ASSERT(bio != nullptr);
  return bio;
}

}  // namespace hf::crypto
