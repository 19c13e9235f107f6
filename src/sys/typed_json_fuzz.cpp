// Any bytes as a described message: decoded or refused; what decodes encodes to what decodes to
// the same, and keeps to its bounds.
#include "base/assert.h"
#include "base/fuzz_input.h"
#include "sys/typed_json.h"

namespace hf::sys::fuzz {

enum class Word { kOne, kTwo };
constexpr auto json_words(JsonOf<Word>) {
  return std::array{JsonWord{"one", Word::kOne}, JsonWord{"two", Word::kTwo}};
}
struct Inner {
  int32_t number = 0;
  std::vector<std::string> texts;
  bool operator==(const Inner&) const = default;
};
constexpr auto json_members(JsonOf<Inner>) {
  return std::tuple(
      json_member_or_default("number", &Inner::number, {.min = -9, .max = 9}),
      json_member_or_default("texts", &Inner::texts, {.length_max = 5, .items_max = 3}));
}
struct Outer {
  Word word = Word::kOne;
  uint64_t big = 0;
  Bytes bytes;
  std::optional<VmId> vm;
  std::map<std::string, Inner> inner;
  bool operator==(const Outer&) const = default;
};
constexpr auto json_members(JsonOf<Outer>) {
  return std::tuple(json_member_or_default("word", &Outer::word),
                    json_member_or_default("big", &Outer::big, {.max = UINT64_MAX}),
                    json_member_or_default("bytes", &Outer::bytes,
                                           {.length_max = 7, .bytes = JsonBytes::kBase64}),
                    json_member("vm", &Outer::vm), json_member_or_default("inner", &Outer::inner));
}

}  // namespace hf::sys::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;             // NOLINT
  using namespace hf::sys::fuzz;  // NOLINT
  const std::string_view text = hf::as_text(hf::fuzz_input(data, size));
  const Result<Outer> decoded = sys::decode_json<Outer>(text);
  if (!decoded.ok()) {
    HF_ASSERT(!decoded.error().cause.empty());
    return 0;
  }
  HF_ASSERT(decoded->bytes.size() <= 7);
  for (const auto& [key, inner] : decoded->inner) {
    HF_ASSERT(inner.number >= -9 && inner.number <= 9 && inner.texts.size() <= 3);
    for (const std::string& item : inner.texts) HF_ASSERT(item.size() <= 5);
  }
  const Result<Outer> again = sys::decode_json<Outer>(sys::encode_json_text(*decoded));
  HF_ASSERT(again.ok() && *again == *decoded);
  return 0;
}
