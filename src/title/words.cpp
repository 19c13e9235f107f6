#include "title/words.h"

#include <algorithm>

namespace hf::title {

bool Word::names(const SiteId& site) const {
  return std::ranges::find(silent, site) != silent.end();
}

bool Words::Given::stands(Instant now) const {
  return now.value - at.value <= (list ? kListLife : kWordLife);
}

void Words::drop_old(Instant now) {
  std::erase_if(given_, [&](const auto& entry) {
    return entry.second.entries.empty() || !entry.second.stands(now);
  });
}

size_t Words::size() const {
  size_t size = 0;
  for (const auto& [token, given] : given_) size += given.entries.size();
  return size;
}

Status Words::give(const Token& token, std::vector<Word> entries, bool list, Instant now) {
  drop_old(now);
  if (entries.size() > kWordsMax - std::min(kWordsMax, size())) {
    return Error{.code = ErrorCode::kLimit, .cause = "too many words stand already"};
  }
  for (const Word& word : entries) {
    if (word.vm.is_zero() || word.silent.size() > kMembersMax) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "a word that names no one VM"};
    }
  }
  if (entries.empty() || (!list && entries.size() > 1) || given_.contains(token)) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "not one word, nor a list"};
  }
  given_[token] = {.entries = std::move(entries), .at = now, .list = list};
  return {};
}

const Word* Words::find(const Token& token, const VmId& vm, Act act, Instant now) const {
  const auto given = given_.find(token);
  if (given == given_.end() || !given->second.stands(now)) return nullptr;
  for (const Word& word : given->second.entries) {
    if (word.vm == vm && word.act == act) return &word;
  }
  return nullptr;
}

void Words::spend(const Token& token, const VmId& vm, Act act) {
  const auto given = given_.find(token);
  HF_ASSERT(given != given_.end());
  const size_t spent = std::erase_if(
      given->second.entries, [&](const Word& word) { return word.vm == vm && word.act == act; });
  HF_ASSERT(spent > 0);
  if (given->second.entries.empty()) given_.erase(given);
}

size_t Words::heard(const SiteId& site, const VmId& vm) {
  size_t ended = 0;
  for (auto& [token, given] : given_) {
    ended += std::erase_if(given.entries, [&](const Word& word) {
      if (word.kind == WordKind::kDistrusted) return false;  // it may say what it likes
      return word.names(site) && (given.list || word.vm == vm);
    });
  }
  std::erase_if(given_, [](const auto& entry) { return entry.second.entries.empty(); });
  return ended;
}

}  // namespace hf::title
