#include "hypervisor/guest_agent.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "base/base64.h"
#include "hypervisor/guest_variables.h"
#include "sys/bounded_io.h"

namespace hf::hypervisor {
namespace {

using namespace std::chrono_literals;

// An agent that answers as the test wants: one function from request to answer line.
class GuestAgentTest : public ::testing::Test {
 protected:
  using Answer = std::function<std::string(const sys::JsonObject&)>;

  GuestAgentTest() {
    char pattern[] = "/tmp/hf-qga-XXXXXX";
    dir_ = mkdtemp(pattern);
  }
  ~GuestAgentTest() override {
    join();
    std::filesystem::remove_all(dir_);
  }

  void join() {
    if (thread_.joinable()) thread_.join();
  }
  std::string path() const { return dir_ + "/qga.sock"; }

  // `before`: what an earlier client left unread.
  void serve(Answer answer, std::string before = "") {
    auto listener = sys::listen_unix(path(), sys::SocketType::kStream);
    ASSERT_TRUE(listener.ok());
    thread_ = std::thread([listener = std::move(*listener), answer = std::move(answer), before] {
      sys::UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!before.empty()) (void)sys::send_all(fd.get(), as_bytes(before), 1s);
      std::string text;
      while (true) {
        std::byte chunk[4096];
        Result<size_t> got = sys::receive_some(fd.get(), chunk, 5s);
        if (!got.ok() || *got == 0) return;
        text += as_text(ByteSpan(chunk, *got));
        for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
          std::string line = text.substr(0, end);
          text.erase(0, end + 1);
          bool flushed = line.starts_with('\xff');
          sys::JsonObject request = *sys::parse_json_object(line.substr(flushed ? 1 : 0));
          std::string name = *sys::get_string(request, "execute");
          std::string reply =
              name == "guest-sync-delimited" && flushed
                  ? "\xff{\"return\": " +
                        sys::to_text((*sys::get_object(request, "arguments"))->at("id")) + "}\n"
                  : answer(request);
          if (!reply.empty()) (void)sys::send_all(fd.get(), as_bytes(reply), 1s);
        }
      }
    });
  }

 private:
  std::string dir_;
  std::thread thread_;
};

std::string command(const sys::JsonObject& request) { return *sys::get_string(request, "execute"); }

TEST_F(GuestAgentTest, a_guest_without_agent_is_told_within_the_limit) {
  auto listener = sys::listen_unix(path(), sys::SocketType::kStream);
  ASSERT_TRUE(listener.ok());
  GuestAgent agent(path(), 200ms);
  auto begin = std::chrono::steady_clock::now();
  Status pinged = agent.ping();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
  ASSERT_FALSE(pinged.ok());
  EXPECT_EQ(pinged.error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(pinged.error().mend.empty());
}

TEST_F(GuestAgentTest, old_answers_are_skipped_up_to_the_sentinel) {
  serve([](const sys::JsonObject&) { return "{\"return\": {}}\n"; },
        "{\"return\": {\"version\":\"old\"}}\n{\"return\": 7}\n\xff{\"return\": 12}\n{\"ret");
  GuestAgent agent(path(), 2s);
  EXPECT_TRUE(agent.ping().ok());
  EXPECT_TRUE(agent.ping().ok());
}

TEST_F(GuestAgentTest, a_file_comes_in_pieces_and_is_closed) {
  std::string content(200'000, 'x');
  content += "end";
  size_t given = 0;
  bool closed = false;
  serve([&](const sys::JsonObject& request) -> std::string {
    if (command(request) == "guest-file-open") return "{\"return\": 1000}\n";
    if (command(request) == "guest-file-close") {
      closed = true;
      return "{\"return\": {}}\n";
    }
    size_t count = *sys::get_u64(**sys::get_object(request, "arguments"), "count");
    std::string piece = content.substr(given, count);
    given += piece.size();
    sys::JsonObject answer{{"count", piece.size()},
                           {"buf-b64", base64_encode(as_bytes(piece))},
                           {"eof", given == content.size()}};
    return sys::to_text(sys::JsonObject{{"return", answer}}) + "\n";
  });
  GuestAgent agent(path(), 2s);
  Result<Bytes> bytes = agent.read_file("/x");
  ASSERT_TRUE(bytes.ok()) << bytes.error().describe();
  EXPECT_EQ(as_text(*bytes), content);
  EXPECT_TRUE(closed);
}

TEST_F(GuestAgentTest, a_file_without_end_stops_at_the_limit) {
  serve([](const sys::JsonObject& request) -> std::string {
    if (command(request) == "guest-file-open") return "{\"return\": 1000}\n";
    if (command(request) == "guest-file-close") return "{\"return\": {}}\n";
    sys::JsonObject answer{
        {"buf-b64", base64_encode(Bytes(4096, std::byte{1}))}, {"count", 4096}, {"eof", false}};
    return sys::to_text(sys::JsonObject{{"return", answer}}) + "\n";
  });
  GuestAgent agent(path(), 2s);
  Result<Bytes> bytes = agent.read_file("/endless", 10'000);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, ErrorCode::kLimit);
}

// Gives a byte an answer, each well within the time for an answer.
std::string drip(const sys::JsonObject& request) {
  if (command(request) == "guest-file-open") return "{\"return\": 1000}\n";
  if (command(request) == "guest-file-close") return "{\"return\": {}}\n";
  std::this_thread::sleep_for(20ms);
  return R"({"return":{"count":1,"buf-b64":"AA==","eof":false}})"
         "\n";
}

TEST_F(GuestAgentTest, an_agent_that_drips_is_given_up_when_the_files_time_is_over) {
  serve(drip);
  GuestAgent agent(path(), 2s);
  auto begin = std::chrono::steady_clock::now();
  Result<Bytes> bytes = agent.read_file("/slow", kGuestFileMax, 300ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, ErrorCode::kTimeout);
  EXPECT_FALSE(bytes.error().mend.empty());
}

TEST_F(GuestAgentTest, who_waits_for_the_guest_can_be_called_off) {
  serve(drip);
  GuestAgent agent(path(), 2s);
  auto begin = std::chrono::steady_clock::now();
  std::thread other([&agent] {
    std::this_thread::sleep_for(100ms);
    agent.cancel();
  });
  Result<Bytes> bytes = agent.read_file("/slow");
  other.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 1s);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(agent.ping().ok());
}

TEST_F(GuestAgentTest, a_refusal_is_told_in_the_agents_words_and_the_channel_goes_on) {
  serve([](const sys::JsonObject& request) -> std::string {
    if (command(request) == "guest-ping") return "{\"return\": {}}\n";
    return R"({"error":{"class":"GenericError","desc":"failed to open file '/x': No such file"}})"
           "\n";
  });
  GuestAgent agent(path(), 2s);
  Result<Bytes> bytes = agent.read_file("/x");
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, ErrorCode::kConflict);
  EXPECT_NE(bytes.error().cause.find("No such file"), std::string::npos);
  EXPECT_TRUE(agent.ping().ok());
}

TEST_F(GuestAgentTest, a_program_is_waited_for_and_its_words_come_back) {
  int polls = 0;
  sys::JsonObject asked;
  serve([&](const sys::JsonObject& request) -> std::string {
    if (command(request) == "guest-exec") {
      asked = **sys::get_object(request, "arguments");
      return "{\"return\": {\"pid\": 77}}\n";
    }
    if (++polls < 3) return "{\"return\": {\"exited\": false}}\n";
    sys::JsonObject answer{{"exited", true},
                           {"exitcode", 3},
                           {"out-data", base64_encode(as_bytes("resealed\n"))},
                           {"err-data", base64_encode(as_bytes("warned"))}};
    return sys::to_text(sys::JsonObject{{"return", answer}}) + "\n";
  });
  GuestAgent agent(path(), 2s);
  Result<GuestRun> run = agent.run("/etc/holdfast/reseal", {"ab"}, 5s);
  ASSERT_TRUE(run.ok()) << run.error().describe();
  EXPECT_EQ(run->exit_status, 3);
  EXPECT_EQ(run->output, "resealed\n");
  EXPECT_EQ(run->errors, "warned");
  EXPECT_EQ(*sys::get_string(asked, "path"), "/etc/holdfast/reseal");
  EXPECT_EQ(sys::to_text(asked.at("arg")), R"(["ab"])");
}

TEST_F(GuestAgentTest, nonsense_is_an_error_and_never_taken_for_an_answer) {
  for (std::string reply : {"hello\n", "[]\n", "{}\n", "{\"return\":{\"pid\":\"a\"}}\n",
                            "{\"return\":5}\n", "\xff\xff\n"}) {
    std::filesystem::remove(path());
    serve([reply](const sys::JsonObject&) { return reply; });
    {
      GuestAgent agent(path(), 1s);
      EXPECT_FALSE(agent.run("/x", {}, 1s).ok()) << reply;
    }
    join();
  }
}

// What the guest is asked to run, and how that ended.
TEST_F(GuestAgentTest, a_variable_is_written_with_its_attributes_in_front) {
  std::string input;
  std::string file;
  serve([&](const sys::JsonObject& request) -> std::string {
    if (command(request) == "guest-exec") {
      const sys::JsonObject& arguments = *sys::get_object(request, "arguments").value();
      input = *sys::get_string(arguments, "input-data");
      file = std::string(sys::get_array(arguments, "arg").value()->back().as_string());
      return "{\"return\": {\"pid\": 7}}\n";
    }
    return "{\"return\": {\"exited\": true, \"exitcode\": 0}}\n";
  });
  GuestAgent agent(path(), 2s);
  Status written = write_efi_variable(
      agent, {.file = "dbx-d719b2cb", .attributes = 0x67, .data = Bytes(3, std::byte{9})}, 2s);
  EXPECT_TRUE(written.ok()) << written.error().describe();
  agent.disconnect();
  join();
  EXPECT_EQ(file, "dbx-d719b2cb");
  EXPECT_EQ(to_hex(*base64_decode(input)), "67000000090909");
}

TEST_F(GuestAgentTest, a_variable_that_the_firmware_refuses_is_told_in_the_guests_cleaned_words) {
  serve([](const sys::JsonObject& request) -> std::string {
    if (command(request) == "guest-exec") return "{\"return\": {\"pid\": 7}}\n";
    return "{\"return\": {\"exited\": true, \"exitcode\": 1, \"err-data\": \"" +
           base64_encode(as_bytes("dd: \x1b[31mPermission denied\xff")) + "\"}}\n";
  });
  GuestAgent agent(path(), 2s);
  Status written = write_efi_variable(agent, {.file = "db-d719b2cb", .data = Bytes(1)}, 2s);
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, ErrorCode::kConflict);
  EXPECT_NE(written.error().cause.find("dd:  [31mPermission denied?"), std::string::npos)
      << written.error().cause;
}

}  // namespace
}  // namespace hf::hypervisor
