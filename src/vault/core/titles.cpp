#include "vault/core/titles.h"

#include <algorithm>
#include <array>

#include "crypto/crypto.h"
#include "vault/core/names.h"
#include "vault/store/sealed_file.h"

namespace hf::vault {
namespace {

// A deleted VM's copies may be taken for so long, from when a site learned of the end.
constexpr uint64_t kTombstone = uint64_t{14} * 24 * 3600 * 1'000'000;

title::Line line_of(const Freshness& freshness) {
  return {.position = freshness.position, .chain = freshness.chain};
}

Error no_title(const VmId& vm) {
  return Error{.code = ErrorCode::kNotFound,
               .cause = "this site's vault knows no VM " + vm.hex(),
               .effect = "nothing was signed or released",
               .mend = "holdfast vm list"};
}

Error other_vm(const std::string& path, const VmId& named) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = path + " is of VM " + named.hex(),
               .effect = "it is not used, and nothing was changed",
               .mend = "restore " + path + " from a copy of the vault's directory"};
}

title::WordKind kind_of(title::Act act) {
  switch (act) {
    case title::Act::kTake:
      return title::WordKind::kSourceIsOff;
    case title::Act::kGoOn:
      return title::WordKind::kWithoutPeer;
    case title::Act::kExpel:
    case title::Act::kTakeOver:
      return title::WordKind::kLostForGood;
    case title::Act::kDistrust:
      return title::WordKind::kDistrusted;
    case title::Act::kHandOver:
    case title::Act::kRewind:
      return title::WordKind::kWritesGivenUp;
    case title::Act::kSettleDoubt:
      return title::WordKind::kNone;
  }
  return title::WordKind::kNone;
}

// The acts that a word of an operator may be for, on which this statement can stand.
std::span<const title::Act> acts_of(title::Kind kind) {
  static constexpr std::array kTake{title::Act::kTake, title::Act::kDistrust,
                                    title::Act::kTakeOver};
  static constexpr std::array kGoOn{title::Act::kGoOn};
  static constexpr std::array kExpel{title::Act::kExpel, title::Act::kDistrust};
  static constexpr std::array kHandOver{title::Act::kHandOver};
  switch (kind) {
    case title::Kind::kTake:
      return kTake;
    case title::Kind::kGoOn:
      return kGoOn;
    case title::Kind::kExpel:
      return kExpel;
    case title::Kind::kHandOver:
      return kHandOver;
    default:
      return {};
  }
}

}  // namespace

// ---- Files --------------------------------------------------------------------------------------

// Clear part: VM, generation, the head that it was opened under, whether there is a freshness
// record, the record, the chain.
Result<Titles::Entry> Titles::load(const VmId& vm) const {
  const std::string name = title_file_name(vm);
  Result<Bytes> bytes = directory_.read(name, kTitleFileMax);
  if (!bytes.ok()) {
    return bytes.error().code == ErrorCode::kNotFound ? no_title(vm) : std::move(bytes).error();
  }
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kTitle, *bytes, path));
  TRY(open_file(file, owner_.kek, path));
  Reader reader(file.clear);
  const VmId named = reader.id<VmId>();
  if (!reader.failed() && named != vm) return other_vm(path, named);
  const uint64_t generation = reader.u64();
  const auto under = reader.id<Digest>();
  const bool settled = reader.u8() != 0;
  const Freshness freshness = settled ? decode_freshness(reader) : Freshness{};
  const ByteSpan chain = reader.blob(title::kChainSizeMax);
  TRY(reader.finish(path));
  Entry entry{
      .chain = TRY_CONTEXT(title::Chain::decode(chain, owner_.site, owner_.faults), "read " + path),
      .asking = title::Asking(owner_.site, now(), owner_.faults),
      .generation = generation};
  if (settled) entry.settled = freshness;
  if (!under.is_zero()) entry.opened_under = under;
  const std::optional<StoredFreshness> stored = TRY(load_freshness(vm));
  if (stored && stored->generation == generation) {
    if (!stored->under.is_zero()) entry.opened_under = stored->under;
    entry.reported = stored->freshness;
  }
  return entry;
}

// Clear part: VM, generation of the title, the head that it was opened under, the record.
Result<std::optional<Titles::StoredFreshness>> Titles::load_freshness(const VmId& vm) const {
  using Stored = std::optional<StoredFreshness>;
  const std::string name = freshness_file_name(vm);
  Result<Bytes> bytes = directory_.read(name, kSealedFileMax);
  if (!bytes.ok() && bytes.error().code == ErrorCode::kNotFound) return Stored();
  if (!bytes.ok()) return std::move(bytes).error();
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kFreshness, *bytes, path));
  TRY(open_file(file, owner_.kek, path));
  Reader reader(file.clear);
  const VmId named = reader.id<VmId>();
  StoredFreshness stored;
  stored.generation = reader.u64();
  stored.under = reader.id<Digest>();
  stored.freshness = decode_freshness(reader);
  TRY(reader.finish(path));
  if (named != vm) return other_vm(path, named);
  return Stored(stored);
}

Status Titles::check(const VmId& vm) const {
  TRY(load(vm));
  return {};
}

Status Titles::check_freshness(const VmId& vm) const {
  TRY(load_freshness(vm));
  return {};
}

Result<Titles::Entry*> Titles::entry(const VmId& vm) {
  const auto known = entries_.find(vm);
  if (known != entries_.end()) return &known->second;
  return &entries_.emplace(vm, TRY(load(vm))).first->second;
}

// The statement and what it says of the position are durable together, or neither is.
Status Titles::store(const VmId& vm, Entry& entry, title::Chain next) {
  HF_ASSERT(!next.empty());
  const bool same_line = !entry.chain.empty() && next.same_tenure(entry.chain.digest());
  std::optional<Freshness> settled = entry.reported ? entry.reported : entry.settled;
  const title::Line& line = next.title().line;
  // Of this site's own line a statement names only what is on it, durably: a keeper's report comes
  // later, or never.
  const bool newer = !settled || settled->position.sequence < line.position.sequence;
  if (next.holder_is(owner_.site) && !line.empty() && (!same_line || newer) &&
      !owner_.freshness_apart) {
    settled = Freshness{.position = line.position, .chain = line.chain, .time = clock_.wall_time()};
  }
  Writer clear;
  clear.id(vm);
  clear.u64(entry.generation + 1);
  clear.id(same_line ? entry.opened_under.value_or(Digest{}) : Digest{});
  clear.u8(settled ? 1 : 0);
  if (settled) encode(clear, *settled);
  clear.blob(next.encode(), title::kChainSizeMax);
  TRY(directory_.replace(title_file_name(vm),
                         seal_file(FileKind::kTitle, owner_.kek, clear.bytes(), {}, rng_)));
  ++entry.generation;
  entry.settled = settled;
  entry.reported.reset();
  if (!same_line) entry.opened_under.reset();
  entry.chain = std::move(next);
  entry.asking.head_changed(entry.chain);
  return {};
}

Result<VmId> Titles::create(uint32_t start_after) {
  if (start_after > title::kStartAfterMax) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "a start policy of over a day"};
  }
  Digest origin;
  rng_.fill(origin.bytes);
  const title::SignedPtr made = title::Signed::sign(
      title::make_create(owner_.site, origin, start_after, clock_.wall_time()), owner_.signer);
  const VmId vm = made->vm();
  HF_ASSERT(!exists(vm));  // of 256 fresh random bits
  Entry entry{.chain = title::Chain(vm, owner_.site, owner_.faults),
              .asking = title::Asking(owner_.site, now(), owner_.faults)};
  title::Chain chain = entry.chain;
  chain.add_own(made, clock_.wall_time());
  TRY(store(vm, entry, std::move(chain)));
  entries_.emplace(vm, std::move(entry));
  return vm;
}

bool Titles::exists(const VmId& vm) const { return directory_.exists(title_file_name(vm)); }

Status Titles::remove(const VmId& vm) {
  const Result<Entry*> known = entry(vm);
  const SiteId self = owner_.site;
  const auto signed_here = [&](const title::SignedPtr& one) {
    return one->statement().issuer == self;
  };
  const auto names_another = [&](const title::SignedPtr& one) {
    const auto members = one->statement().members.all();
    return std::ranges::any_of(members, [&](const title::Member& m) { return m.site != self; });
  };
  const bool held = known.ok() && (*known)->chain.holder_is(self);
  bool stays = false;
  if (known.ok()) {
    const std::vector<title::SignedPtr> all = (*known)->chain.statements();
    stays =
        std::ranges::any_of(all, names_another) && (held || std::ranges::any_of(all, signed_here));
  }
  shown_.erase(vm);
  // In memory is what is needed now.
  entries_.erase(vm);
  if (!(stays && held) && directory_.exists(freshness_file_name(vm)))
    TRY(directory_.remove(freshness_file_name(vm)));
  if (!stays && exists(vm)) TRY(directory_.remove(title_file_name(vm)));
  return {};
}

Result<std::vector<VmId>> Titles::forget_oldest(const VmId& but) {
  struct Remembered {
    uint64_t written_us = 0;
    VmId vm;
    uint64_t bytes = 0;
    auto operator<=>(const Remembered&) const = default;
  };
  std::vector<Remembered> all;
  uint64_t bytes = 0;
  for (const std::string& name : TRY(directory_.list())) {
    const std::optional<VmId> vm = vm_of_title_file(name);
    if (!vm || directory_.exists(key_file_name(*vm))) continue;
    const FileStore::Size size = TRY(directory_.size(name));
    all.push_back({.written_us = size.written_us, .vm = *vm, .bytes = size.bytes});
    bytes += size.bytes;
  }
  std::ranges::sort(all);
  std::vector<VmId> gone;
  for (const Remembered& one : all) {
    if (all.size() - gone.size() <= kRememberedMax && bytes <= kRememberedBytesMax) break;
    if (one.vm == but) continue;
    if (directory_.exists(freshness_file_name(one.vm)))
      TRY(directory_.remove(freshness_file_name(one.vm)));
    TRY(directory_.remove(title_file_name(one.vm)));
    entries_.erase(one.vm);
    shown_.erase(one.vm);
    bytes -= one.bytes;
    gone.push_back(one.vm);
  }
  return gone;
}

// ---- Statements ---------------------------------------------------------------------------------

TitleView Titles::view_of(const Entry& entry) const {
  return {.head = entry.chain.head(),
          .rivals = entry.chain.rivals(),
          .in_doubt = entry.chain.in_doubt(),
          .depth = entry.chain.size(),
          .ancestors = entry.chain.ancestors()};
}

Result<TitleView> Titles::view(const VmId& vm) { return view_of(*TRY(entry(vm))); }

Result<std::vector<Digest>> Titles::known(const VmId& vm) {
  std::vector<Digest> known;
  Result<Entry*> found = entry(vm);
  if (!found.ok() && found.error().code == ErrorCode::kNotFound) return known;
  const Entry& entry = *TRY(std::move(found));
  known.push_back(entry.chain.digest());
  for (const title::SignedPtr& rival : entry.chain.rivals()) known.push_back(rival->digest());
  return known;
}

Result<Bytes> Titles::lacking(const VmId& vm, std::span<const Digest> known) {
  std::vector<title::SignedPtr> bundle = TRY(entry(vm))->chain.lacking(known);
  Bytes bytes = title::encode_bundle(bundle);
  while (bytes.size() > kMaxBundle) {
    bundle.resize(bundle.size() - bundle.size() / 8 - 1);
    bytes = title::encode_bundle(bundle);
  }
  return bytes;
}

title::Chain Titles::let_go(title::Chain chain, const SiteId& from,
                            const title::Verifier& verifier) {
  const SiteId self = owner_.site;
  if (chain.empty()) return chain;
  const title::Statement& last = chain.title();
  if (last.kind != title::Kind::kResign || last.issuer != self) return chain;
  const std::vector<title::SignedPtr> rivals = chain.rivals();
  const auto line = std::ranges::find_if(rivals, [&](const title::SignedPtr& rival) {
    return rival->statement().holder == last.holder && chain.expelled_by(rival->digest(), self);
  });
  if (line == rivals.end()) return chain;
  title::Chain anew(chain.vm(), self, owner_.faults);
  for (const title::SignedPtr& one : chain.statements()) {
    if (chain.follows((*line)->digest(), one->digest()))
      anew.learn(std::span(&one, 1), from, verifier, now(), clock_.wall_time());
  }
  // All that this site has signed there it has just had.
  if (!chain.in_doubt()) anew.clear_doubt();
  return !anew.empty() && anew.digest() == (*line)->digest() ? anew : chain;
}

Result<TitleLearned> Titles::learn(const VmId& vm, const SiteId& from, ByteSpan bundle, bool begin,
                                   const title::Verifier& verifier) {
  const std::vector<title::SignedPtr> statements = TRY(title::decode_bundle(bundle));
  Result<Entry*> known = entry(vm);
  if (!known.ok() && (known.error().code != ErrorCode::kNotFound || !begin)) {
    return std::move(known).error();
  }
  std::optional<Entry> fresh;
  if (!known.ok()) {
    fresh.emplace(Entry{.chain = title::Chain(vm, owner_.site, owner_.faults),
                        .asking = title::Asking(owner_.site, now(), owner_.faults)});
  }
  Entry& entry = fresh ? *fresh : **known;
  title::Chain next = entry.chain;
  const title::Learned learned = next.learn(statements, from, verifier, now(), clock_.wall_time());
  const Digest heard = next.empty() ? Digest{} : next.digest();
  if (begin && next.has_rivals()) next = let_go(std::move(next), from, verifier);
  const bool lets_go = !next.empty() && next.digest() != heard;
  TitleLearned out{.head_changed = learned.head_changed || lets_go,
                   .fence = learned.fence,
                   .wanted = learned.wanted,
                   .refused = learned.refused};
  if (learned.changed() || lets_go) {
    TRY(store(vm, entry, std::move(next)));
    words_.heard(from, vm);
  } else {
    entry.chain = std::move(next);  // what its sender has used up
  }
  if (fresh && entry.chain.empty()) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "what site " + from.hex() + " says of VM " + vm.hex() +
                          " does not begin with that VM's create, signed by a site that is known "
                          "here",
                 .effect = "nothing of it was learned",
                 .mend = "pair with the site that made the VM: holdfast site peers"};
  }
  if (fresh) entries_.emplace(vm, *std::move(fresh));
  out.view = view_of(*TRY(this->entry(vm)));
  return out;
}

// ---- Questions ----------------------------------------------------------------------------------

Result<title::Question> Titles::ask(const VmId& vm, const SiteId& to) {
  Entry& entry = *TRY(this->entry(vm));
  title::Nonce nonce;
  rng_.fill(nonce.bytes);
  return entry.asking.ask(entry.chain, to, nonce, now());
}

Result<Bytes> Titles::answer(const title::Question& question, const OwnWord& word) {
  if (question.to != owner_.site) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "a question to another site"};
  }
  Result<Entry*> found = entry(question.vm);
  if (!found.ok() && found.error().code != ErrorCode::kNotFound) return std::move(found).error();
  const title::Chain nothing(question.vm, owner_.site);
  title::Answer answer = title::answer_from(found.ok() ? (*found)->chain : nothing, question);
  answer.accepts = word.accepts;
  if (found.ok()) {
    const title::OwnLine own = own_line(question.vm, **found);
    answer.whole = own.whole && !own.end.empty();
    if (answer.whole) answer.line = own.end;
    answer.prepared = word.prepared && answer.whole;
    (*found)->asking.answered(question.from, now());
  }
  return title::SignedAnswer::sign(answer, owner_.signer).encode();
}

Result<title::Judged<void>> Titles::take_answer(const VmId& vm, ByteSpan answer,
                                                const title::Verifier& verifier) {
  const title::SignedAnswer given = TRY(title::SignedAnswer::decode(answer));
  Entry& entry = *TRY(this->entry(vm));
  const title::Judged<void> taken = entry.asking.take_answer(given, verifier, now());
  if (!taken) return taken;
  words_.heard(given.answer.from, vm);
  const title::Judge judge(entry.chain, entry.asking, entry.chain.digest(), now(),
                           clock_.wall_time());
  if (entry.chain.in_doubt() && judge.may_settle_doubt(nullptr)) {
    title::Chain next = entry.chain;
    next.clear_doubt();
    TRY(store(vm, entry, std::move(next)));
  }
  return taken;
}

// ---- What follows -------------------------------------------------------------------------------

namespace {
// This site's head gives the VM up to one that gave its own up to this site at once. Until one of
// the two does so again nothing that either has is set aside, nor written to. Any other rival that
// names this site says nothing of what it has.
bool gave_up_at_once(const title::Chain& chain, const SiteId& self) {
  const auto gave_up = [](const title::Statement& said) {
    return said.kind == title::Kind::kGiveUp;
  };
  return !chain.empty() && gave_up(chain.title()) && chain.title().issuer == self &&
         std::ranges::any_of(chain.rivals(), [&](const title::SignedPtr& rival) {
           return gave_up(rival->statement()) && rival->statement().holder == self;
         });
}
}  // namespace

title::OwnLine Titles::own_line(const VmId& vm, const Entry& entry) const {
  const bool holder = entry.chain.holder_is(owner_.site);
  const bool keeps = holder || gave_up_at_once(entry.chain, owner_.site);
  title::OwnLine own;
  const std::optional<Freshness>& fresh = entry.reported ? entry.reported : entry.settled;
  if (keeps && fresh) {
    own.end = line_of(*fresh);
    own.whole = true;
  }
  const auto shown = shown_.find(vm);
  if (shown != shown_.end() && shown->second.end.position.sequence >= own.end.position.sequence) {
    own.end = shown->second.end;
    own.whole = shown->second.whole;
  }
  if (shown != shown_.end()) own.holds = shown->second.holds;
  // A keeper opens the line at or after its freshness record, or not at all; and that was the
  // title's position when this site's tenure began, and has only grown.
  const title::Line& line = entry.chain.title().line;
  if (holder && !line.empty() && own.end.position.sequence >= line.position.sequence) {
    own.holds.push_back(line);
  }
  return own;
}

Result<TitleSigned> Titles::propose(const TitleProposal& proposal, const Processes& processes) {
  const VmId& vm = proposal.vm;
  Entry& entry = *TRY(this->entry(vm));
  const title::Instant now = this->now();
  const Micros wall = clock_.wall_time();
  const title::OwnLine own = own_line(vm, entry);
  const title::Word* word = nullptr;
  for (const title::Act act : acts_of(proposal.kind)) {
    if (word == nullptr && !proposal.token.is_zero())
      word = words_.find(proposal.token, vm, act, now);
  }
  const title::Judge judge(entry.chain, entry.asking, proposal.about, now, wall);
  const auto judged = [&]() -> title::Judged<title::Statement> {
    switch (proposal.kind) {
      case title::Kind::kProtect:
        return judge.may_protect(proposal.subject);
      case title::Kind::kStandBy:
        return judge.may_stand_by(proposal.subject, own);
      case title::Kind::kPolicy:
        return judge.may_set_policy(proposal.start_after, false);
      case title::Kind::kHandOver:
        return judge.may_hand_over(proposal.subject, own, processes.still, word);
      case title::Kind::kResign:
        return judge.may_resign();
      case title::Kind::kExpel:
        return judge.may_expel(proposal.subject, word);
      case title::Kind::kTake:
        // A word for a take is none for a conflict.
        return entry.chain.has_rivals() && word != nullptr && word->act != title::Act::kTake
                   ? judge.may_take_over(own, word)
                   : judge.may_take(own, word, kTombstone);
      case title::Kind::kGoOn:
        return judge.may_go_on(own, word);
      case title::Kind::kGiveUp:
        return judge.may_give_up(processes.still);
      case title::Kind::kJoin:
        return judge.may_join(own);
      case title::Kind::kEnd:
        return judge.may_end(processes.still);
      case title::Kind::kCheckpoint:
        return judge.may_checkpoint();
      case title::Kind::kCreate:
      case title::Kind::kRewind:
        break;
    }
    return title::refuse(title::Cause::kNotYet, title::Action::kNothing);
  }();
  if (!judged) return TitleSigned(std::unexpected(judged.error()));
  title::Chain next = entry.chain;
  next.add_own(title::Signed::sign(*judged, owner_.signer), wall);
  const std::optional<title::Word> used = word != nullptr ? std::optional(*word) : std::nullopt;
  TRY(store(vm, entry, std::move(next)));
  if (used) {
    words_.spend(proposal.token, vm, used->act);
    entry.asking.excuse(*used, entry.chain.digest(), now);
  }
  return TitleSigned(view_of(entry));
}

Result<GivenWord> Titles::give_word(const VmId& vm, title::Act act) {
  const Entry& entry = *TRY(this->entry(vm));
  GivenWord given{
      .word = {.vm = vm, .head = entry.chain.digest(), .act = act, .kind = kind_of(act)}};
  for (const title::Member& member : entry.chain.title().members.all()) {
    if (member.site != owner_.site) given.word.silent.push_back(member.site);
  }
  rng_.fill(given.token.bytes);
  TRY(words_.give(given.token, {given.word}, false, now()));
  return given;
}

Result<std::vector<VmId>> Titles::expel(const SiteId& site) {
  std::vector<VmId> expelled;
  for (const std::string& name : TRY(directory_.list())) {
    const std::optional<VmId> vm = vm_of_title_file(name);
    if (!vm) continue;
    // A file that cannot be read lets nothing be signed either.
    const Result<Entry*> found = entry(*vm);
    if (!found.ok()) continue;
    Entry& entry = **found;
    const title::Word word{.vm = *vm,
                           .head = entry.chain.digest(),
                           .act = title::Act::kDistrust,
                           .kind = title::WordKind::kDistrusted,
                           .silent = {site}};
    const Micros wall = clock_.wall_time();
    const title::Judge judge(entry.chain, entry.asking, entry.chain.digest(), now(), wall);
    const title::Judged<title::Statement> judged = judge.may_expel(site, &word);
    if (!judged) continue;
    title::Chain next = entry.chain;
    next.add_own(title::Signed::sign(*judged, owner_.signer), wall);
    TRY(store(*vm, entry, std::move(next)));
    expelled.push_back(*vm);
  }
  return expelled;
}

Result<title::Judged<void>> Titles::may_release(const VmId& vm, bool returning) {
  const Entry& entry = *TRY(this->entry(vm));
  const title::Judge judge(entry.chain, entry.asking, entry.chain.digest(), now(),
                           clock_.wall_time());
  // A conflict stops nothing that runs.
  if (returning && entry.opened_under) {
    return judge.may_return({.same_guest = true, .started_under = *entry.opened_under});
  }
  return judge.may_release();
}

Result<title::Judged<void>> Titles::open_gate(const VmId& vm, bool returning) {
  Entry& entry = *TRY(this->entry(vm));
  const title::Judge judge(entry.chain, entry.asking, entry.chain.digest(), now(),
                           clock_.wall_time());
  if (returning && entry.opened_under) {
    return judge.may_return({.same_guest = true, .started_under = *entry.opened_under});
  }
  const title::OwnLine own = own_line(vm, entry);
  const title::Judged<title::Permit> permit = judge.may_open(own);
  if (!permit) return title::Judged<void>(std::unexpected(permit.error()));
  // Which tenure a guest belongs to has to outlive this process.
  const std::optional<Freshness>& fresh = entry.reported ? entry.reported : entry.settled;
  HF_ASSERT(fresh);  // may_open() wants a line
  if (entry.opened_under != entry.chain.digest()) {
    const std::optional<Digest> before = std::exchange(entry.opened_under, entry.chain.digest());
    if (Status stored = put_freshness(vm, *fresh); !stored.ok()) {
      entry.opened_under = before;
      return std::move(stored).error();
    }
  }
  entry.asking.opened(entry.chain.digest());
  return title::Judged<void>();
}

void Titles::stopped(const VmId& vm) {
  const auto known = entries_.find(vm);
  if (known != entries_.end()) known->second.asking.stopped();
}

void Titles::show_line(const VmId& vm, ShownLine line) { shown_[vm] = std::move(line); }

void Titles::keeper_gone(const VmId& vm) {
  const auto known = entries_.find(vm);
  if (known == entries_.end() || !known->second.chain.holder_is(owner_.site)) {
    shown_.erase(vm);
  }
}

// ---- Freshness ----------------------------------------------------------------------------------

Result<Freshness> Titles::freshness(const VmId& vm) {
  Result<Entry*> found = entry(vm);
  if (!found.ok() && found.error().code != ErrorCode::kNotFound) return std::move(found).error();
  if (found.ok() && (*found)->reported) return *(*found)->reported;
  if (found.ok() && (*found)->settled) return *(*found)->settled;
  return Error{.code = ErrorCode::kNotFound,
               .cause = "no freshness record of VM " + vm.hex(),
               .effect = "whether its journal is the newest cannot be told here"};
}

Status Titles::put_freshness(const VmId& vm, const Freshness& freshness) {
  Entry& entry = *TRY(this->entry(vm));
  Writer clear;
  clear.id(vm);
  clear.u64(entry.generation);
  clear.id(entry.opened_under.value_or(Digest{}));
  encode(clear, freshness);
  TRY(directory_.replace(freshness_file_name(vm),
                         seal_file(FileKind::kFreshness, owner_.kek, clear.bytes(), {}, rng_)));
  entry.reported = freshness;
  return {};
}

}  // namespace hf::vault
