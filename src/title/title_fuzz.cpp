// Statements, answers, bundles and chains from a stranger: what decodes encodes to the same bytes.
#include "base/fuzz_input.h"
#include "title/answer.h"

using namespace hf;
using namespace hf::title;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteSpan bytes = hf::fuzz_input(data, size);
  const auto same = [&](const Bytes& again) { HF_ASSERT(std::ranges::equal(again, bytes)); };
  if (const auto s = Signed::decode(bytes); s.ok()) same((*s)->encode());
  if (const auto a = SignedAnswer::decode(bytes); a.ok()) same(a->encode());
  if (const auto b = decode_bundle(bytes); b.ok()) same(encode_bundle(*b));
  if (const auto c = Chain::decode(bytes, SiteId{}); c.ok()) same(c->encode());
  return 0;
}
