#include "sim/lifecycle/site_vault.h"

namespace hf::sim::life {

SiteVault::SiteVault(const SiteId& self, const title::Signer& signer,
                     const title::Verifier& verifier, const crypto::Secret& kek,
                     Scheduler& scheduler, SimRng rng, Fault fault)
    : self_(self),
      signer_(signer),
      verifier_(verifier),
      kek_(kek),
      clock_(scheduler),
      rng_(std::move(rng)),
      fault_(fault),
      files_(scheduler, fault == Fault::kStatementNotDurable) {}

void SiteVault::start() {
  HF_ASSERT(!titles_);
  titles_ = std::make_unique<vault::Titles>(
      files_,
      vault::Titles::Owner{.site = self_,
                           .kek = kek_,
                           .signer = signer_,
                           .faults = title_faults(fault_),
                           .freshness_apart = fault_ == Fault::kFreshnessApart},
      clock_, rng_);
}

void SiteVault::die() {
  titles_.reset();
  files_.process_died();
  released_ = false;
  handed_out_ = false;
}

std::optional<vault::TitleView> SiteVault::view() {
  Result<vault::TitleView> view = titles_->view(vm_);
  if (view.ok()) return *view;
  HF_ASSERT(view.error().code == ErrorCode::kNotFound);
  return std::nullopt;
}
std::vector<Digest> SiteVault::known() { return *titles_->known(vm_); }
Bytes SiteVault::lacking(const std::vector<Digest>& known) {
  Result<Bytes> lacking = titles_->lacking(vm_, known);
  return lacking.ok() ? *lacking : Bytes();
}

Result<vault::TitleLearned> SiteVault::learn(const SiteId& from, ByteSpan bundle, bool begin) {
  Result<vault::TitleLearned> learned = titles_->learn(vm_, from, bundle, begin, verifier_);
  if (learned.ok() && learned->fence) released_ = false;
  return learned;
}

std::optional<title::Question> SiteVault::ask(const SiteId& to) {
  const Result<title::Question> question = titles_->ask(vm_, to);
  return question.ok() ? std::optional(*question) : std::nullopt;
}
std::optional<Bytes> SiteVault::answer(const title::Question& question, bool replica) {
  const Result<Bytes> answer = titles_->answer(question, {.accepts = true, .prepared = replica});
  return answer.ok() ? std::optional(*answer) : std::nullopt;
}
bool SiteVault::take_answer(ByteSpan answer) {
  const Result<title::Judged<void>> taken = titles_->take_answer(vm_, answer, verifier_);
  return taken.ok() && taken->has_value();
}

title::Judged<vault::TitleView> SiteVault::propose(title::Kind kind, const SiteId& subject,
                                                   const title::Token& word) {
  const std::optional<vault::TitleView> before = view();
  if (!before) return title::refuse(title::Cause::kNoTitle, title::Action::kNothing);
  const vault::Titles::Processes processes{
      .still = {.keepers_dead = !released_ && !handed_out_, .qemu_reaped = !guest_}};
  Result<vault::TitleSigned> outcome = titles_->propose(
      {.vm = vm_, .about = before->head->digest(), .kind = kind, .subject = subject, .token = word},
      processes);
  HF_ASSERT(outcome.ok());
  if (outcome->has_value() && (*outcome)->head->statement().holder != self_) released_ = false;
  return *std::move(outcome);
}

title::Token SiteVault::give_word(title::Act act) {
  const Result<vault::GivenWord> given = titles_->give_word(vm_, act);
  return given.ok() ? given->token : title::Token{};
}

Status SiteVault::release(bool keeper_there) {
  if (!titles_) return Error{.code = ErrorCode::kUnavailable, .cause = "no vault answers"};
  if (!keeper_there)
    return Error{.code = ErrorCode::kConflict, .cause = "no keeper to release the key to"};
  const auto judged = TRY(titles_->may_release(vm_, guest_));
  if (!judged && fault_ != Fault::kKeyAgainstTitle)
    return Error{.code = ErrorCode::kConflict, .cause = "refused by the title"};
  released_ = true;
  return {};
}

bool SiteVault::fetch_key() {
  if (!released_) return false;
  handed_out_ = true;
  titles_->key_goes_out(vm_);
  return true;
}

bool SiteVault::open_gate() {
  if (!released_) return false;
  if (fault_ == Fault::kKeyAgainstTitle) return true;
  const Result<title::Judged<void>> judged = titles_->open_gate(vm_, guest_);
  HF_ASSERT(judged.ok());
  gate_says_ = judged->has_value() ? "" : title::to_string(judged->error().cause);
  return judged->has_value();
}

void SiteVault::show_line(const title::Line& end, const std::optional<title::Line>& holds) {
  vault::ShownLine line{.end = end, .whole = true};
  if (holds) line.holds.push_back(*holds);
  titles_->show_line(vm_, line);
}

void SiteVault::put_freshness(const title::Line& line) {
  HF_ASSERT(
      titles_
          ->put_freshness(
              vm_, {.position = line.position, .chain = line.chain, .time = clock_.wall_time()})
          .ok());
}

std::optional<title::Line> SiteVault::freshness() {
  const Result<vault::Freshness> fresh = titles_->freshness(vm_);
  if (!fresh.ok()) return std::nullopt;
  return title::Line{.position = fresh->position, .chain = fresh->chain};
}

void SiteVault::forget_vm() { HF_ASSERT(titles_->remove(vm_).ok()); }

void SiteVault::guest_is(bool on) {
  if (guest_ && !on && titles_) titles_->stopped(vm_);
  guest_ = on;
}
void SiteVault::keeper_there() { handed_out_ = true; }
void SiteVault::keeper_gone() {
  released_ = false;
  handed_out_ = false;
  if (titles_) titles_->keeper_gone(vm_);
}

}  // namespace hf::sim::life
