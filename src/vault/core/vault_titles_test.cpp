// Two vaults and what their daemons carry between them: who may run a VM.
#include "vault/core/testing.h"

namespace hf::vault {
namespace {

using namespace testing;
using title::Action;
using title::Cause;
using title::Kind;

constexpr uint64_t kSeconds = 1'000'000;

title::Line line_at(uint64_t sequence) {
  title::Line line{.position = {.incarnation = {}, .sequence = Sequence(sequence)}};
  line.position.incarnation.bytes.fill(std::byte{0x11});
  line.chain.bytes.fill(static_cast<std::byte>(sequence));
  return line;
}

Freshness fresh_at(uint64_t sequence) {
  const title::Line line = line_at(sequence);
  return {.position = line.position, .chain = line.chain, .time = Micros(sequence)};
}

// "home" runs the VM; "away" stands by for it, unless a test wants less.
class TwoVaults : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(home_->add_recipient(away_->identity(), "", kDaemon).ok());
    ASSERT_TRUE(away_->add_recipient(home_->identity(), "", kDaemon).ok());
    vm_ = home_.make(1).vm;
    ASSERT_TRUE(home_->add_member(vm_, away(), kOperator).ok());
    ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
    ASSERT_TRUE(home_->put_freshness(vm_, fresh_at(5), kKeeper).ok());
  }
  SiteId home() { return home_->identity().site; }
  SiteId away() { return away_->identity().site; }
  Digest head(TestVault& site) { return site->title(vm_)->head->digest(); }
  SiteId holder(TestVault& site) { return site->title(vm_)->head->statement().holder; }

  void give_key() {
    ASSERT_TRUE(home_->add_member(vm_, away(), kOperator).ok());
    const Bytes wrap = *home_->wrap_for(vm_, away(), kDaemon);
    ASSERT_TRUE(away_->import_wrap(vm_, wrap, kDaemon).ok());
  }
  // Protected, with all up to `sequence` there.
  void protect(uint64_t sequence = 5) {
    away_.learn_from(home_, vm_);
    home_.ask(away_, vm_);
    ASSERT_TRUE(home_.propose(vm_, Kind::kProtect, away()).has_value());
    give_key();
    away_.learn_from(home_, vm_);
    show_away(sequence);
    home_.ask(away_, vm_);
    show_home_holds(sequence);
    const TitleSigned stands = home_.propose(vm_, Kind::kStandBy, away());
    ASSERT_TRUE(stands.has_value()) << to_string(stands.error().cause);
    away_.learn_from(home_, vm_);
  }
  void protect_again() {
    away_.learn_from(home_, vm_);
    show_away(5);
    home_.ask(away_, vm_);
    show_home_holds(5);
    ASSERT_TRUE(home_.propose(vm_, Kind::kStandBy, away()).has_value());
    away_.learn_from(home_, vm_);
  }
  void show_away(uint64_t sequence) {
    ASSERT_TRUE(away_->show_line(vm_, {.end = line_at(sequence), .whole = true}, kKeeper).ok());
  }
  void show_home_holds(uint64_t sequence) {
    ASSERT_TRUE(home_
                    ->show_line(vm_,
                                {.end = line_at(5), .whole = true, .holds = {line_at(sequence)}},
                                kKeeper)
                    .ok());
  }
  void pass(TestVault& site, uint64_t seconds) {
    site.clock.mono = Micros(site.clock.mono.value + seconds * kSeconds);
  }
  // Asked, and not answered for longer than silence takes.
  void goes_silent(TestVault& site, SiteId other) {
    pass(site, 6);
    ASSERT_TRUE(site->title_ask(vm_, other).ok());
  }
  // The keeper of the home site and its guest are dead and reaped.
  void home_stops() {
    ASSERT_TRUE(home_->revoke(vm_, kDaemon).ok());
    home_.bind(false);
    home_.bind();
  }
  title::Token word(TestVault& site, title::Act act) {
    return site->give_word(vm_, act, kOperator)->token;
  }

  TestVault home_{"a"};
  TestVault away_{"b"};
  VmId vm_;
};

TEST_F(TwoVaults, a_vms_id_is_the_digest_of_its_create) {
  const TitleView view = *home_->title(vm_);
  EXPECT_EQ(view.head->vm(), vm_);
  EXPECT_EQ(view.head->statement().kind, Kind::kCreate);
  EXPECT_EQ(holder(home_), home());
  home_.reopen();
  EXPECT_EQ(head(home_), view.head->digest());
  // Another site's create does not become ours under an id that it did not make.
  const VmId other = away_.make(2).vm;
  const Bytes theirs = *away_->title_lacking(other, {});
  EXPECT_FALSE(home_->title_learn(vm_of(9), away(), theirs, true, kDaemon).ok());
  EXPECT_FALSE(home_->title(vm_of(9)).ok());
}

TEST_F(TwoVaults, a_site_that_is_trusted_no_more_is_waited_for_no_more) {
  protect();
  home_stops();
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  EXPECT_FALSE(home_->open_gate(vm_, kKeeper).ok()) << "nobody asked the standby";
  // Though it lives and answers.
  ASSERT_TRUE(home_->remove_recipient(away(), kOperator).ok());
  EXPECT_FALSE(home_->title(vm_)->head->statement().names(away()));
  EXPECT_EQ(home_->title(vm_)->head->statement().kind, Kind::kExpel);
  EXPECT_EQ(holder(home_), home());
  EXPECT_TRUE(home_->open_gate(vm_, kKeeper).ok());
  home_.reopen();
  EXPECT_FALSE(home_->title(vm_)->head->statement().names(away())) << "durably";
  // What the other site holds is not for this one to say.
  const Digest before = head(away_);
  ASSERT_TRUE(away_->remove_recipient(home(), kOperator).ok());
  EXPECT_EQ(head(away_), before);
}

// Trust ended at both sites at once: neither heard of what the other signed then.
TEST_F(TwoVaults, who_resigned_and_was_expelled_meanwhile_is_protected_at_anew) {
  protect();
  ASSERT_TRUE(away_.propose(vm_, Kind::kResign, {}).has_value());
  ASSERT_TRUE(away_->delete_key(vm_, kDaemon).ok());
  ASSERT_TRUE(home_->remove_recipient(away(), kOperator).ok());
  ASSERT_TRUE(home_->add_recipient(away_->identity(), "", kDaemon).ok());
  const Bytes all = *home_->title_lacking(vm_, {});
  // Hearing of it changes nothing by itself.
  ASSERT_TRUE(away_->title_learn(vm_, home(), all, false, kDaemon).ok());
  EXPECT_NE(head(away_), head(home_));
  EXPECT_EQ(away_->title(vm_)->rivals.size(), 1U);
  // Being given the VM anew does.
  ASSERT_TRUE(away_->title_learn(vm_, home(), all, true, kDaemon).ok());
  EXPECT_EQ(head(away_), head(home_));
  EXPECT_TRUE(away_->title(vm_)->rivals.empty());
  EXPECT_FALSE(away_->title(vm_)->in_doubt);
  away_.reopen();
  EXPECT_EQ(head(away_), head(home_));
}

TEST_F(TwoVaults, what_is_not_begun_is_not_learned) {
  const Bytes all = *home_->title_lacking(vm_, {});
  EXPECT_EQ(away_->title_learn(vm_, home(), all, false, kDaemon).error().code,
            ErrorCode::kNotFound);
  EXPECT_TRUE(away_->title_learn(vm_, home(), all, true, kDaemon).ok());
  EXPECT_EQ(holder(away_), home());
  // Of a site that nobody here has paired with, nothing is believed.
  TestVault stranger("c");
  EXPECT_EQ(stranger->title_learn(vm_, home(), all, true, kDaemon).error().code,
            ErrorCode::kWrongKey);
}

TEST_F(TwoVaults, a_member_wants_its_sites_acceptance_and_a_standby_its_whole_line) {
  away_.learn_from(home_, vm_);
  EXPECT_EQ(home_.propose(vm_, Kind::kProtect, away()).error().cause, Cause::kNotAsked);
  home_.ask(away_, vm_, {.accepts = false});
  EXPECT_EQ(home_.propose(vm_, Kind::kProtect, away()).error().cause, Cause::kNotAccepted);
  home_.ask(away_, vm_);
  ASSERT_TRUE(home_.propose(vm_, Kind::kProtect, away()).has_value());
  // Equal heads first.
  home_.ask(away_, vm_);
  EXPECT_EQ(home_.propose(vm_, Kind::kStandBy, away()).error().cause, Cause::kPeerOtherHead);
  away_.learn_from(home_, vm_);
  home_.ask(away_, vm_);
  EXPECT_EQ(home_.propose(vm_, Kind::kStandBy, away()).error().cause, Cause::kPeerNotWhole);
  // A line that this site's keeper has not found on its own is not taken for it.
  show_away(4);
  home_.ask(away_, vm_);
  EXPECT_EQ(home_.propose(vm_, Kind::kStandBy, away()).error().cause, Cause::kNotOnOurLine);
  show_home_holds(4);
  EXPECT_TRUE(home_.propose(vm_, Kind::kStandBy, away()).has_value());
}

TEST_F(TwoVaults, a_member_wants_an_operators_word_for_that_vm_and_site) {
  ASSERT_TRUE(home_->remove_member(vm_, away(), kOperator).ok());
  away_.learn_from(home_, vm_);
  home_.ask(away_, vm_);  // it accepts, whoever says so there
  const TitleSigned refused = home_.propose(vm_, Kind::kProtect, away());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error(), (title::Refused{Cause::kWordNeeded, Action::kProtect, away()}));
  ASSERT_TRUE(home_->add_member(vm_, away(), kOperator).ok());
  home_.ask(away_, vm_);
  EXPECT_TRUE(home_.propose(vm_, Kind::kProtect, away()).has_value());
}

TEST_F(TwoVaults, the_key_goes_to_the_holders_keeper_only) {
  protect();
  EXPECT_TRUE(home_->release(vm_, kDaemon).ok());
  const Error refused = away_->release(vm_, kDaemon).error();
  EXPECT_EQ(refused.code, ErrorCode::kConflict);
  EXPECT_EQ(away_->fetch_key(vm_, kKeeper).error().code, ErrorCode::kUnavailable);
}

TEST_F(TwoVaults, nothing_is_opened_before_the_standby_was_asked) {
  EXPECT_TRUE(home_->open_gate(vm_, kKeeper).ok());  // alone
  protect();
  home_stops();
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  EXPECT_EQ(home_->open_gate(vm_, kKeeper).error().code, ErrorCode::kUnavailable);
  home_.ask(away_, vm_);
  EXPECT_TRUE(home_->open_gate(vm_, kKeeper).ok());
  // An answer counts for three seconds.
  home_stops();
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  home_.ask(away_, vm_);
  pass(home_, 4);
  EXPECT_EQ(home_->open_gate(vm_, kKeeper).error().code, ErrorCode::kUnavailable);
}

TEST_F(TwoVaults, a_silent_standby_holds_a_start_until_an_operator_gives_a_word) {
  protect();
  home_stops();
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  pass(home_, 6);
  ASSERT_TRUE(home_->title_ask(vm_, away()).ok());  // never answered
  EXPECT_EQ(home_->open_gate(vm_, kKeeper).error().code, ErrorCode::kConflict);
  EXPECT_EQ(home_.propose(vm_, Kind::kGoOn).error().cause, Cause::kWordNeeded);
  const title::Token token = word(home_, title::Act::kGoOn);
  ASSERT_TRUE(home_.propose(vm_, Kind::kGoOn, {}, token).has_value());
  ASSERT_TRUE(home_->title_ask(vm_, away()).ok());
  EXPECT_TRUE(home_->open_gate(vm_, kKeeper).ok());
  // Spent.
  EXPECT_EQ(home_.propose(vm_, Kind::kGoOn, {}, token).error().cause, Cause::kWordNeeded);
}

TEST_F(TwoVaults, a_hand_over_wants_everything_of_the_giver_dead_and_all_of_it_there) {
  protect();
  ASSERT_TRUE(home_->fetch_key(vm_, kKeeper).ok());
  ASSERT_TRUE(home_->open_gate(vm_, kKeeper).ok() || true);
  home_.ask(away_, vm_);
  ASSERT_TRUE(home_->open_gate(vm_, kKeeper).ok());
  EXPECT_EQ(home_.propose(vm_, Kind::kHandOver, away()).error().cause, Cause::kProcessesAlive);
  // Taking the key back is not enough: who had it may still write.
  ASSERT_TRUE(home_->revoke(vm_, kDaemon).ok());
  EXPECT_EQ(home_.propose(vm_, Kind::kHandOver, away()).error().cause, Cause::kProcessesAlive);
  home_.bind(false);
  home_.bind();
  home_.ask(away_, vm_, {.accepts = true, .prepared = false});
  EXPECT_EQ(home_.propose(vm_, Kind::kHandOver, away()).error().cause, Cause::kNotPrepared);
  home_.ask(away_, vm_);
  const TitleSigned signed_over = home_.propose(vm_, Kind::kHandOver, away());
  ASSERT_TRUE(signed_over.has_value()) << to_string(signed_over.error().cause);
  EXPECT_EQ(home_->release(vm_, kDaemon).error().code, ErrorCode::kConflict);
  // The taker learns it, and has its freshness with it.
  away_.learn_from(home_, vm_);
  EXPECT_EQ(holder(away_), away());
  EXPECT_EQ(away_->read_freshness(vm_)->position, line_at(5).position);
  ASSERT_TRUE(away_->release(vm_, kDaemon).ok());
  EXPECT_EQ(away_->open_gate(vm_, kKeeper).error().code, ErrorCode::kUnavailable);  // hearsay
  away_.ask(home_, vm_);
  EXPECT_TRUE(away_->open_gate(vm_, kKeeper).ok());
  // The giver stands by, by itself.
  EXPECT_TRUE(home_->title(vm_)->head->statement().is_standby(home()));
}

TEST_F(TwoVaults, a_take_wants_silence_and_a_word_and_an_answer_ends_both) {
  protect();
  EXPECT_EQ(away_.propose(vm_, Kind::kTake).error().cause, Cause::kWordNeeded);
  const title::Token early = word(away_, title::Act::kTake);
  EXPECT_EQ(away_.propose(vm_, Kind::kTake, {}, early).error().cause, Cause::kHolderAnswers);
  // The holder answers: the word ends.
  away_.ask(home_, vm_);
  EXPECT_EQ(away_.propose(vm_, Kind::kTake, {}, early).error().cause, Cause::kWordNeeded);
  goes_silent(away_, home());
  const title::Token token = word(away_, title::Act::kTake);
  const TitleSigned taken = away_.propose(vm_, Kind::kTake, {}, token);
  ASSERT_TRUE(taken.has_value()) << to_string(taken.error().cause);
  EXPECT_EQ(holder(away_), away());
  ASSERT_TRUE(away_->release(vm_, kDaemon).ok());
  // The old holder comes back, and is fenced by what it learns.
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  const Bytes news = *away_->title_lacking(vm_, *home_->title_known(vm_));
  const TitleLearned learned = *home_->title_learn(vm_, away(), news, false, kDaemon);
  EXPECT_TRUE(learned.fence);
  EXPECT_EQ(home_->fetch_key(vm_, kKeeper).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(home_->release(vm_, kDaemon).error().code, ErrorCode::kConflict);
}

// Standing by is the authority to take; whoever misuses it loses the VM again, whatever it answers.
TEST_F(TwoVaults, a_holder_that_is_distrusted_is_taken_from_though_it_answers) {
  protect();
  goes_silent(away_, home());
  ASSERT_TRUE(away_.propose(vm_, Kind::kTake, {}, word(away_, title::Act::kTake)).has_value());
  home_.learn_from(away_, vm_);
  ASSERT_EQ(holder(home_), away());
  ASSERT_TRUE(home_->show_line(vm_, {.end = line_at(5), .whole = true}, kKeeper).ok());
  home_.ask(away_, vm_);
  EXPECT_EQ(home_.propose(vm_, Kind::kTake, {}, word(home_, title::Act::kTake)).error().cause,
            Cause::kHolderAnswers);
  const title::Token token = word(home_, title::Act::kDistrust);
  home_.ask(away_, vm_);
  const TitleSigned taken = home_.propose(vm_, Kind::kTake, {}, token);
  ASSERT_TRUE(taken.has_value()) << to_string(taken.error().cause);
  EXPECT_EQ(holder(home_), home());
  EXPECT_FALSE(taken->head->statement().names(away()));
  EXPECT_TRUE(home_->release(vm_, kDaemon).ok());
  // It counts once; and what the other signs from then on counts no more.
  EXPECT_EQ(home_.propose(vm_, Kind::kTake, {}, token).error().cause, Cause::kIsHolder);
  away_.learn_from(home_, vm_);
  EXPECT_EQ(holder(away_), home());
}

TEST_F(TwoVaults, a_word_is_for_one_minute) {
  protect();
  pass(away_, 6);
  const title::Token token = word(away_, title::Act::kTake);
  pass(away_, 61);
  EXPECT_EQ(away_.propose(vm_, Kind::kTake, {}, token).error().cause, Cause::kWordNeeded);
}

TEST_F(TwoVaults, two_takes_on_mistaken_words_are_rivals_that_stop_nothing_and_start_nothing) {
  protect();
  goes_silent(away_, home());
  ASSERT_TRUE(away_.propose(vm_, Kind::kTake, {}, word(away_, title::Act::kTake)).has_value());
  goes_silent(home_, away());
  ASSERT_TRUE(home_.propose(vm_, Kind::kGoOn, {}, word(home_, title::Act::kGoOn)).has_value());
  home_.learn_from(away_, vm_);
  const TitleView view = *home_->title(vm_);
  ASSERT_EQ(view.rivals.size(), 1u);
  EXPECT_EQ(view.rivals[0]->statement().holder, away());
  EXPECT_EQ(holder(home_), home());
  EXPECT_EQ(home_->release(vm_, kDaemon).error().code, ErrorCode::kConflict);
}

// Both gave the VM up to the other at once. Each has what it had, and says so, with no keeper left
// to show it, and over the end of its vault.
TEST_F(TwoVaults, of_two_that_gave_up_at_once_one_does_so_again) {
  protect();
  goes_silent(away_, home());
  ASSERT_TRUE(away_.propose(vm_, Kind::kTake, {}, word(away_, title::Act::kTake)).has_value());
  goes_silent(home_, away());
  ASSERT_TRUE(home_.propose(vm_, Kind::kGoOn, {}, word(home_, title::Act::kGoOn)).has_value());
  home_.learn_from(away_, vm_);
  away_.learn_from(home_, vm_);
  for (TestVault* site : {&home_, &away_}) {
    ASSERT_TRUE((*site)->revoke(vm_, kDaemon).ok());
    site->bind(false);
  }
  home_.ask(away_, vm_);
  away_.ask(home_, vm_);
  const TitleSigned of_home = home_.propose(vm_, Kind::kGiveUp, away());
  const TitleSigned of_away = away_.propose(vm_, Kind::kGiveUp, home());
  ASSERT_TRUE(of_home.has_value()) << to_string(of_home.error().cause);
  ASSERT_TRUE(of_away.has_value()) << to_string(of_away.error().cause);
  home_.learn_from(away_, vm_);
  away_.learn_from(home_, vm_);
  for (TestVault* site : {&home_, &away_}) {
    site->reopen();
    site->bind(false);
  }
  TestVault& first = home() < away() ? home_ : away_;
  TestVault& second = home() < away() ? away_ : home_;
  second.ask(first, vm_);
  EXPECT_EQ(second.propose(vm_, Kind::kGiveUp, first->identity().site).error().cause,
            Cause::kNotCrossed);
  first.ask(second, vm_);
  const TitleSigned again = first.propose(vm_, Kind::kGiveUp, second->identity().site);
  ASSERT_TRUE(again.has_value()) << to_string(again.error().cause);
  second.learn_from(first, vm_);
  EXPECT_EQ(holder(first), holder(second));
  EXPECT_TRUE(second->title(vm_)->rivals.empty());
}

TEST_F(TwoVaults, a_guest_that_runs_gets_its_keeper_back_over_the_vaults_end) {
  protect();
  home_stops();
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  home_.ask(away_, vm_);
  ASSERT_TRUE(home_->open_gate(vm_, kKeeper).ok());
  home_.reopen();
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  EXPECT_FALSE(home_->open_gate(vm_, kKeeper).ok());  // no guest: from cold
  KeeperBindings running = both_keepers(++home_.generation);
  running.keepers[0].guest = true;
  ASSERT_TRUE(home_->bind_keepers(running, kLauncher).ok());
  EXPECT_TRUE(home_->open_gate(vm_, kKeeper).ok());
  // Under a title that ended since, it does not.
  goes_silent(away_, home());
  ASSERT_TRUE(away_.propose(vm_, Kind::kTake, {}, word(away_, title::Act::kTake)).has_value());
  home_.learn_from(away_, vm_);
  EXPECT_EQ(home_->release(vm_, kDaemon).error().code, ErrorCode::kConflict);
}

TEST_F(TwoVaults, a_site_that_resigned_and_forgot_the_vm_is_no_stranger_to_its_own_word) {
  protect();
  ASSERT_TRUE(away_.propose(vm_, Kind::kResign).has_value());
  home_.learn_from(away_, vm_);
  ASSERT_TRUE(away_->delete_key(vm_, kDaemon).ok());
  EXPECT_FALSE(away_->title(vm_)->in_doubt);
  protect();  // again
  EXPECT_FALSE(away_->title(vm_)->in_doubt);
  EXPECT_TRUE(home_->title(vm_)->head->statement().is_standby(away()));
}

// holdfastd, taken over, has kept what it carried: of before the hand-over, and of the key.
TEST_F(TwoVaults, a_holder_whose_vm_was_removed_is_not_given_an_older_position) {
  away_.learn_from(home_, vm_);
  home_.ask(away_, vm_);
  ASSERT_TRUE(home_.propose(vm_, Kind::kProtect, away()).has_value());
  const Bytes wrap = *home_->wrap_for(vm_, away(), kDaemon);
  ASSERT_TRUE(away_->import_wrap(vm_, wrap, kDaemon).ok());
  protect_again();
  ASSERT_TRUE(home_->open_gate(vm_, kKeeper).ok() || true);
  home_.ask(away_, vm_);
  ASSERT_TRUE(home_->open_gate(vm_, kKeeper).ok());
  home_stops();
  home_.ask(away_, vm_);
  ASSERT_TRUE(home_.propose(vm_, Kind::kHandOver, away()).has_value());
  away_.learn_from(home_, vm_);
  const Bytes kept = *away_->title_lacking(vm_, {});
  ASSERT_TRUE(away_->release(vm_, kDaemon).ok());
  away_.ask(home_, vm_);
  ASSERT_TRUE(away_->open_gate(vm_, kKeeper).ok());
  ASSERT_TRUE(away_->put_freshness(vm_, fresh_at(9), kKeeper).ok());
  // The VM is removed here, and learned anew with its old key.
  ASSERT_TRUE(away_->revoke(vm_, kDaemon).ok());
  away_.bind(false);
  away_.bind();
  ASSERT_TRUE(away_->delete_key(vm_, kDaemon).ok());
  for (const bool restarted : {false, true}) {
    if (restarted) away_.reopen();
    ASSERT_TRUE(away_->title_learn(vm_, home(), kept, true, kDaemon).ok());
    ASSERT_TRUE(away_->import_wrap(vm_, wrap, kDaemon).ok());
    EXPECT_EQ(away_->read_freshness(vm_)->position, fresh_at(9).position);
    ASSERT_TRUE(away_->delete_key(vm_, kDaemon).ok());
  }
}

TEST_F(TwoVaults, of_a_vm_that_nobody_else_has_heard_of_nothing_stays) {
  ASSERT_TRUE(home_->revoke(vm_, kDaemon).ok());
  ASSERT_TRUE(home_->delete_key(vm_, kDaemon).ok());
  EXPECT_FALSE(home_->title(vm_).ok());
  // Nor of one in which this site had no part.
  const VmId other = away_.make(2).vm;
  home_.learn_from(away_, other);
  ASSERT_TRUE(home_->delete_key(other, kDaemon).ok());
  EXPECT_FALSE(home_->title(other).ok());
}

// A paired site makes this one take VMs and give them up without end.
TEST_F(TwoVaults, what_is_remembered_of_vms_that_are_gone_is_bounded_and_the_oldest_goes) {
  std::vector<VmId> given_up;
  const auto take_and_give_up = [&] {
    const VmId vm = away_->create_vm(kDaemon)->vm;
    ASSERT_TRUE(away_->add_member(vm, home(), kOperator).ok());
    home_.learn_from(away_, vm);
    away_.ask(home_, vm);
    ASSERT_TRUE(away_.propose(vm, Kind::kProtect, home()).has_value());
    home_.learn_from(away_, vm);
    ASSERT_TRUE(home_.propose(vm, Kind::kResign).has_value());
    ASSERT_TRUE(home_->delete_key(vm, kDaemon).ok());
    given_up.push_back(vm);
  };
  take_and_give_up();
  // Of the first, as many as there may be, all a little newer.
  const std::string first = home_.directory + "/title-" + given_up[0].hex() + ".hfv";
  const Bytes file = read_file(first);
  for (size_t i = 1; i < kRememberedMax; ++i) {
    VmId vm;
    vm.bytes.fill(std::byte{0xEE});
    store_le(vm.bytes.data(), static_cast<uint32_t>(i));
    write_file(home_.directory + "/title-" + vm.hex() + ".hfv", file);
  }
  EXPECT_TRUE(home_->title(given_up[0]).ok());
  take_and_give_up();
  EXPECT_FALSE(home_->title(given_up[0]).ok()) << "the oldest";
  EXPECT_TRUE(home_->title(given_up[1]).ok());
  EXPECT_TRUE(home_->title(vm_).ok()) << "of what is here nothing goes";
  const Bytes log = read_file(home_.directory + "/audit.log");
  EXPECT_NE(as_text(log).find("title_forgotten"), std::string::npos);
  // It is no dead end: given the VM anew, this site asks before it signs.
  home_.learn_from(away_, given_up[0]);
  EXPECT_FALSE(home_->title(given_up[0])->in_doubt) << "the other site has not learned of it";
}

TEST_F(TwoVaults, a_vault_of_yesterday_signs_nothing_until_the_others_have_answered) {
  protect();
  const std::string file = away_.directory + "/title-" + vm_.hex() + ".hfv";
  const Bytes yesterday = read_file(file);
  ASSERT_TRUE(away_.propose(vm_, Kind::kResign).has_value());
  home_.learn_from(away_, vm_);
  write_file(file, yesterday);
  away_.reopen();
  away_.learn_from(home_, vm_);  // its own resignation
  EXPECT_TRUE(away_->title(vm_)->in_doubt);
  EXPECT_EQ(away_.propose(vm_, Kind::kResign).error().cause, Cause::kInDoubt);
  away_.reopen();
  EXPECT_TRUE(away_->title(vm_)->in_doubt);
  away_.ask(home_, vm_);
  EXPECT_FALSE(away_->title(vm_)->in_doubt);
}

// A guest that writes nothing has no newer freshness record by which this could be known.
TEST_F(TwoVaults, a_statement_under_a_running_guest_does_not_part_it_from_its_keeper) {
  ASSERT_TRUE(home_->open_gate(vm_, kKeeper).ok());
  protect();
  home_.reopen();
  KeeperBindings running = both_keepers(++home_.generation);
  running.keepers[0].guest = true;
  ASSERT_TRUE(home_->bind_keepers(running, kLauncher).ok());
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  EXPECT_TRUE(home_->open_gate(vm_, kKeeper).ok()) << "nobody was asked: the standby may be gone";
}

TEST_F(TwoVaults, a_keeper_that_outlived_the_vault_may_have_the_key) {
  protect();
  home_.reopen();  // its first list names the keeper
  home_.ask(away_, vm_);
  EXPECT_EQ(home_.propose(vm_, Kind::kHandOver, away()).error().cause, Cause::kProcessesAlive);
  home_.bind(false);
  home_.ask(away_, vm_);
  EXPECT_TRUE(home_.propose(vm_, Kind::kHandOver, away()).has_value());
}

// Keepers report their line's end now and then; a stand by may name what was not reported yet.
TEST_F(TwoVaults, what_a_statement_names_on_the_holders_line_is_known_to_be_there) {
  ASSERT_TRUE(home_->put_freshness(vm_, fresh_at(3), kKeeper).ok());
  protect(5);
  home_.reopen();  // power was lost: nothing was reported since, and what was shown is gone
  home_.bind();
  EXPECT_EQ(home_->read_freshness(vm_)->position, line_at(5).position);
  ASSERT_TRUE(home_->release(vm_, kDaemon).ok());
  home_.ask(away_, vm_);
  EXPECT_TRUE(home_->open_gate(vm_, kKeeper).ok())
      << home_->open_gate(vm_, kKeeper).error().describe();
}

TEST_F(TwoVaults, statement_and_position_are_one_file) {
  protect();
  goes_silent(away_, home());
  ASSERT_TRUE(away_.propose(vm_, Kind::kTake, {}, word(away_, title::Act::kTake)).has_value());
  ASSERT_TRUE(away_->release(vm_, kDaemon).ok());
  ASSERT_TRUE(away_->put_freshness(vm_, fresh_at(9), kKeeper).ok());
  away_.reopen();
  EXPECT_EQ(away_->read_freshness(vm_)->position, line_at(9).position);
  // A freshness record of before the newest statement counts no more.
  const std::string file = away_.directory + "/freshness-" + vm_.hex() + ".hfv";
  const Bytes before = read_file(file);
  ASSERT_TRUE(away_->release(vm_, kDaemon).ok());
  ASSERT_TRUE(away_->put_freshness(vm_, fresh_at(12), kKeeper).ok());
  pass(away_, 6);
  ASSERT_TRUE(away_->add_member(vm_, home(), kOperator).ok());
  ASSERT_TRUE(away_->title_ask(vm_, home()).ok());
  ASSERT_FALSE(away_.propose(vm_, Kind::kProtect, home()).has_value());
  away_.ask(home_, vm_);  // it lags behind: known, no rival
  ASSERT_TRUE(away_.propose(vm_, Kind::kProtect, home()).has_value());
  write_file(file, before);
  away_.reopen();
  EXPECT_EQ(away_->read_freshness(vm_)->position, line_at(12).position);
}

TEST_F(TwoVaults, a_damaged_title_is_refused_and_harms_no_other_vm) {
  const VmId other = home_.make(2).vm;
  const std::string file = home_.directory + "/title-" + vm_.hex() + ".hfv";
  const Bytes whole = read_file(file);
  for (size_t at = 0; at < whole.size(); at += 37) {
    Bytes bad = whole;
    bad[at] ^= std::byte{0x10};
    write_file(file, bad);
    home_.reopen();
    EXPECT_EQ(home_->title(vm_).error().code, ErrorCode::kCorrupt) << at;
    EXPECT_EQ(home_->release(vm_, kDaemon).error().code, ErrorCode::kCorrupt) << at;
    EXPECT_TRUE(home_->release(other, kDaemon).ok());
  }
  write_file(file, read_file(home_.directory + "/title-" + other.hex() + ".hfv"));
  home_.reopen();
  EXPECT_EQ(home_->title(vm_).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(home_->check()->problems.size(), 1u);
}

}  // namespace
}  // namespace hf::vault
