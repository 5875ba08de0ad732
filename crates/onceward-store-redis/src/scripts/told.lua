return head
