#include "journal/table/cache.h"

#include "crypto/crypto.h"
#include "journal/format/wire.h"

namespace hf::journal {

PagePtr PageCache::find(uint64_t table, const PageReference& page) {
  const auto found = places_.find({.table = table, .offset = page.offset});
  if (found == places_.end() || found->second->hash != page.hash) {
    ++misses_;
    return nullptr;
  }
  ++hits_;
  used_.splice(used_.begin(), used_, found->second);
  return found->second->bytes;
}

Status PageCache::put(const PageRequest& request, Bytes bytes) {
  if (bytes.size() != request.page.length || crypto::sha256(bytes) != request.page.hash) {
    return corrupt("a table's page differs from its hash");
  }
  const Key key{.table = request.table, .offset = request.page.offset};
  if (const auto found = places_.find(key); found != places_.end()) drop(found->second);
  bytes_ += bytes.size() + kOverhead;
  used_.push_front({.key = key,
                    .hash = request.page.hash,
                    .bytes = std::make_shared<const Bytes>(std::move(bytes))});
  places_[key] = used_.begin();
  while (bytes_ > bytes_max_ && used_.size() > 1) drop(std::prev(used_.end()));
  return {};
}

void PageCache::drop(std::list<Held>::iterator held) {
  HF_ASSERT(bytes_ >= held->bytes->size() + kOverhead);
  bytes_ -= held->bytes->size() + kOverhead;
  places_.erase(held->key);
  used_.erase(held);
}

void PageCache::forget(uint64_t table) {
  for (auto held = used_.begin(); held != used_.end();) {
    const auto next = std::next(held);
    if (held->key.table == table) drop(held);
    held = next;
  }
}

}  // namespace hf::journal
